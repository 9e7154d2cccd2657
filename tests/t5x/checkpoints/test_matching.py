"""What a checkpoint that does not fit a model most likely comes from."""

import re

import numpy as np
import pytest

from t5x.checkpoints import matching
from t5x.errors import UserError

_LAYER = 'target/encoder/layers_0'
_OF_A_LAYER = f'{_LAYER}/relpos_bias/rel_embedding'
_OF_A_STACK = 'target/encoder/relpos_bias/rel_embedding'
_LOGITS = 'target/decoder/logits_dense/kernel'
_NEW, _OLD = f'{_LAYER}/mlp/wi_1/kernel', f'{_LAYER}/mlp/wi/kernel'
_OTHER = 'target/other/scale'
_PER_LAYER = r'for each layer .* the model for each stack\. .*r_layer = True\.$'
_PER_STACK = r'for each stack .* the model for each layer\. .* = False\.$'


@pytest.mark.parametrize(
  ('missing', 'extra', 'cause'),
  [
    ([_NEW, _OTHER], [_OLD, _LAYER], r'is T5 1\.0 .* the model T5 1\.1 '),
    ([_OLD, _OTHER], [_NEW, _LAYER], r'is T5 1\.1 .* the model T5 1\.0 '),
    ([_LOGITS], [], r'Set logits_via_embedding = True'),
    ([_LOGITS], [_OTHER], r'Set logits_via_embedding = True'),
    ([], [_LOGITS], r'Set logits_via_embedding = False'),
    ([_OTHER], [_LOGITS], r'Set logits_via_embedding = False'),
    ([_OF_A_STACK, _OTHER], [_OTHER, _OF_A_LAYER], _PER_LAYER),
    (
      [_OF_A_STACK],
      ['target/encoder/encoder/relpos_bias/rel_embedding'],
      _PER_LAYER,
    ),
    ([_OF_A_LAYER, _OTHER], [_OF_A_STACK, f'{_LAYER}/x'], _PER_STACK),
    ([f'{_LAYER}/x', _OF_A_LAYER], [], 'the model has more layers than'),
    ([], [_OLD, f'{_LAYER}/x'], 'the model has fewer layers than'),
  ],
)
def test_a_difference_in_names_has_a_likely_cause(missing, extra, cause):
  found = matching._cause_of_names(missing, extra)
  assert found is not None and re.search(cause, found), found


@pytest.mark.parametrize(
  ('missing', 'extra'),
  [
    ([], []),
    ([_OTHER], []),
    ([], [_OTHER]),
    ([_LOGITS, _OTHER], []),
    ([], [_LOGITS, _OTHER]),
    ([_OTHER, f'{_LAYER}/x'], []),
    ([f'{_LAYER}/x'], [f'{_LAYER}/y']),
  ],
)
def test_another_difference_has_none(missing, extra):
  assert matching._cause_of_names(missing, extra) is None


def _leaves(shapes):
  return {name: np.empty(shape) for name, shape in shapes.items()}


_STACKED, _NAMED = 'target/encoder/layers/w', 'target/decoder/decoder/w'
_EMBEDDING = 'target/token_embedder/embedding'


@pytest.mark.parametrize(
  ('shapes', 'said'),
  [
    # A leaf, the checkpoint's shape, the model's.
    ({_STACKED: ((2, 4, 5), (3, 4, 5))}, 'encoder has 2 layers .* and 3 in'),
    ({_STACKED: ((3, 4, 5), (2, 4, 5))}, 'encoder has 3 layers .* and 2 in'),
    ({_STACKED: ((2, 4, 5), (2, 6, 5))}, 'another size'),
    ({_STACKED: ((2, 4, 5), (2, 4, 6))}, 'another size'),
    ({_STACKED: ((2, 4, 6), (3, 4, 5))}, 'another size'),
    ({_NAMED: ((9, 3, 8), (9, 2, 8))}, 'decoder has 3 layers .* and 2 in'),
    ({_NAMED: ((3, 9, 8), (2, 9, 8))}, 'decoder has 3 layers .* and 2 in'),
    ({_NAMED: ((2, 9, 8), (3, 9, 8))}, 'decoder has 2 layers .* and 3 in'),
    ({_NAMED: ((9, 3, 8), (9, 3, 7))}, 'another size'),
    (
      {_STACKED: ((2, 4), (3, 4)), _NAMED: ((9, 3, 8), (9, 3, 7))},
      'leaf target/encoder.*another size',
    ),
    (
      {_STACKED: ((2, 4), (3, 4)), _OTHER: ((2, 4), (3, 4))},
      r'leaf target/encoder.*\(2 leaves differ\).*another size',
    ),
    ({_OTHER: ((2, 4), (3, 4))}, 'another size'),
    (
      {_LOGITS: ((4, 9), (4, 8)), _EMBEDDING: ((9, 4), (8, 4))},
      r'leaf target/token_.*another vocabulary size, 9 against 8.*size = 9\.',
    ),
    (
      {_OTHER: ((4,), (5,)), _EMBEDDING: ((9, 4), (9, 5))},
      r'leaf target/token_embedder/embedding .*another size',
    ),
  ],
)
def test_a_difference_in_shapes_has_a_likely_cause(shapes, said):
  stored = _leaves({n: there for n, (there, _) in shapes.items()})
  expected = _leaves({n: here for n, (_, here) in shapes.items()})
  with pytest.raises(UserError, match=f'^f: .*{said}'):
    matching.check_parameters('f', stored, expected)
  matching.check_parameters('f', stored, stored)


def test_names_come_before_shapes_and_the_first_is_named():
  expected = _leaves({'target/a': (1,), 'target/b': (2,), 'state/x': (3,)})
  extra = _leaves({'target/c': (3,), 'target/d': (4,)})
  with pytest.raises(
    UserError,
    match=r'lacks the leaf target/a, which has shape \(1,\) .*\(2 missing,'
    r' 2 not in the model, such as target/c of shape \(3,\)\)',
  ):
    matching.check_parameters('f', extra, expected)
  with pytest.raises(UserError, match=r'2 missing, 0 not in the model\)'):
    matching.check_parameters('f', {}, expected)
  with pytest.raises(
    UserError, match=r'has the leaf target/c of shape \(3,\).*\(2 such leaves\)'
  ):
    matching.check_parameters('f', {**expected, **extra}, expected)
  # A cause that is known says more than a shape.
  there = _leaves({_OLD: (1,), _EMBEDDING: (2,)})
  here = _leaves({_NEW: (1,), _EMBEDDING: (3,)})
  with pytest.raises(UserError, match=r'lacks the leaf .*T5 1\.0'):
    matching.check_parameters('f', there, here)


_SLOTS = {f'state/param_states/{n}': (2, 3) for n in 'abc'}


@pytest.mark.parametrize(
  ('slots', 'said'),
  [
    ({}, 'it holds none'),
    (
      {'state/param_states/c': (2, 3)},
      'it lacks state/param_states/a and 1 more leaves',
    ),
    (
      {**_SLOTS, 'state/param_states/d': (), 'state/param_states/e': ()},
      'it has state/param_states/d and 1 more leaves that the run lacks',
    ),
    (
      {**_SLOTS, 'state/param_states/a': (1,), 'state/param_states/b': (9,)},
      r'state/param_states/a has shape \(1,\) there and \(2, 3\) in the run',
    ),
  ],
)
def test_an_optimizer_that_differs_is_an_error_or_starts_afresh(
  slots, said, caplog
):
  rest = {'target/w': (4,), 'state/step': ()}
  expected = _leaves({**rest, **_SLOTS})
  stored = _leaves({**rest, **slots})
  with pytest.raises(UserError, match=f"^f: .*not this run's: {said}"):
    matching.check_optimizer('f', stored, expected, resuming=True)
  with caplog.at_level('INFO', 'absl'):
    assert not matching.check_optimizer('f', stored, expected, resuming=False)
  assert re.search(said, caplog.text)
  for resuming in (True, False):
    assert matching.check_optimizer('f', expected, expected, resuming)
    # A state without an optimizer wants none.
    assert matching.check_optimizer('f', stored, _leaves(rest), resuming)


@pytest.mark.parametrize(
  ('shape', 'said'),
  [
    (None, r'lacks the leaf flax_mutables/n, of shape \(3,\)'),
    ((2,), r'flax_mutables/n has shape \(2,\) in the checkpoint and \(3,\)'),
    ((4,), r'flax_mutables/n has shape \(4,\) in the checkpoint and \(3,\)'),
  ],
)
def test_what_is_left_must_fit(shape, said):
  expected = _leaves(
    {'target/w': (4,), **_SLOTS, 'state/step': (), 'flax_mutables/n': (3,)}
  )
  stored = _leaves({'state/step': (), 'more': (1,)})
  if shape is not None:
    stored |= _leaves({'flax_mutables/n': shape})
  with pytest.raises(UserError, match=f'^f: .*{said}'):
    matching.check_rest('f', stored, expected)
  matching.check_rest('f', {**stored, 'flax_mutables/n': np.empty(3)}, expected)
