"""Checkpoints of what was trained, with the rest in another checkpoint."""

import dataclasses
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x import adafactor, checkpoints, optimizers
from t5x.checkpoints import base
from t5x.checkpoints.formats import orbax
from t5x.errors import DamagedError, UserError
from tests import toy_model

_FROZEN = 'token_embedder/embedding'


def optimizer():
  return optimizers.PartialOptimizer(
    adafactor.Adafactor(), frozen=('token_embedder', 'norm')
  )


def saved(folder, state, partitioner, **options):
  manager = checkpoints.SaveCheckpointConfig(**options).make_manager(
    str(folder), state, partitioner, toy_model.Position(3)
  )
  manager.save(state)
  manager.close()
  return str(folder / f'checkpoint_{int(state.step)}')


def as_bfloat16(state):
  """The frozen parameters as the run has them, if it keeps less of them."""
  part, frozen = state.split_frozen()
  return part.join_frozen(jax.tree.map(lambda x: x.astype('bfloat16'), frozen))


class Run:
  """A base, and a run on it that has trained a part."""

  def __init__(self, tmp_path, dtype='float32'):
    whole, where = toy_model.initializer(adafactor.Adafactor())
    self.base_state = whole.from_scratch(jax.random.key(1))
    self.base = saved(tmp_path / 'base', self.base_state, where)
    self.initializer, self.partitioner = toy_model.initializer(optimizer())
    state = self.initializer.from_scratch(jax.random.key(2))
    state = state.replace_params(self.base_state.params)
    if dtype == 'bfloat16':
      state = as_bfloat16(state)
    part, _ = state.split_frozen()
    grads = jax.tree.map(jnp.ones_like, part.params)
    self.state = state.apply_gradient(grads, jnp.float32(0.1))
    self.path = saved(
      tmp_path / 'run', self.state, self.partitioner, base=self.base
    )
    self.folder = tmp_path / 'run'

  def restored(self, **options):
    cfg = checkpoints.RestoreCheckpointConfig(
      path=self.path, mode='specific', **options
    )
    return self.initializer.from_checkpoint([cfg])


@pytest.fixture(name='run', scope='module')
def run_fixture(tmp_path_factory):
  return Run(tmp_path_factory.mktemp('parts'))


def same(a, b):
  a, b = a.state_dict(), b.state_dict()
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_checkpoint_holds_what_was_trained_and_restores_all(run):
  (kernel,) = jax.tree.leaves(orbax.read(run.path)['target'])
  assert kernel.shape == (8, 32)
  described = json.loads(pathlib.Path(run.path, 'base/metadata').read_text())
  assert described['path'] == run.base
  assert described['leaves'] == {
    _FROZEN: ['float32', [16, 8]],
    'norm/scale': ['float32', [8]],
  }
  same(run.restored(), run.state)
  # Whatever reads a checkpoint gets all of it.
  read = checkpoints.load_t5x_checkpoint(run.path)['target']
  jax.tree.map(np.testing.assert_array_equal, read, dict(run.state.params))
  assert checkpoints.base_of(run.path) == run.base
  assert checkpoints.base_of(run.base) is None


def test_what_was_rounded_in_the_run_is_rounded_in_any_type(tmp_path):
  run = Run(tmp_path, 'bfloat16')
  found = run.restored(dtype='float32').params['token_embedder']['embedding']
  exact = run.base_state.params['token_embedder']['embedding']
  assert found.dtype == jnp.float32
  np.testing.assert_array_equal(found, exact.astype('bfloat16'))
  assert np.any(found != exact)


def test_evaluation_has_what_was_trained_and_what_was_not(run):
  initializer, _ = toy_model.initializer(None)
  cfg = checkpoints.RestoreCheckpointConfig(path=run.path, mode='specific')
  found = initializer.from_checkpoint([cfg])
  assert int(found.step) == int(run.state.step)
  jax.tree.map(
    np.testing.assert_array_equal, found.params, dict(run.state.params)
  )


def test_another_base_is_told_by_its_values(run, tmp_path):
  other = tmp_path / 'checkpoint_0'
  whole, where = toy_model.initializer(adafactor.Adafactor())
  saved(tmp_path, whole.from_scratch(jax.random.key(5)), where)
  with pytest.raises(UserError) as raised:
    run.restored(base=str(other))
  said = str(raised.value)
  digest = json.loads(pathlib.Path(run.path, 'base/metadata').read_text())
  assert run.base in said and str(other) in said and digest['digest'] in said
  # Nor can a run be saved as if it had started there.
  cfg = checkpoints.SaveCheckpointConfig(base=str(other))
  place = str(tmp_path / 'new'), run.partitioner
  with pytest.raises(UserError, match=f'{other} has other values of'):
    cfg.make_manager(place[0], run.state, place[1])
  assert not (tmp_path / 'new').exists()
  # Shapes have no values to compare.
  cfg.make_manager(place[0], run.initializer.global_train_state_shape, place[1])


def test_a_base_that_was_moved_is_found_where_one_says(tmp_path):
  run = Run(tmp_path)
  moved = tmp_path / 'elsewhere'
  shutil.move(run.base, moved)
  with pytest.raises(UserError, match=r'cannot be opened: .*no such folder.*is'
                     ' elsewhere by now'):  # fmt: skip
    run.restored()
  same(run.restored(base=str(moved)), run.state)
  run.partitioner = toy_model.initializer(optimizer())[1]
  again = checkpoints.SaveCheckpointConfig(base=str(moved)).make_manager(
    str(run.folder), run.state, run.partitioner
  )
  same(again.restore(), run.state)


def test_a_damaged_base_is_not_used(tmp_path):
  run = Run(tmp_path)
  file = max(pathlib.Path(run.base, 'state').rglob('*'), key=_size)
  content = bytearray(file.read_bytes())
  content[len(content) // 2] ^= 1
  file.write_bytes(content)
  with pytest.raises(DamagedError):
    run.restored()


def _size(path):
  return path.stat().st_size if path.is_file() else 0


@pytest.mark.parametrize(
  'content',
  ['[]', '{}', '{"path": "x", "digest": "y", "leaves": {"a": ["int8", [1]]}}',
   '{"path": "x", "digest": "y", "leaves": {"a": 3}}',
   '{"path": "x", "digest": "y", "leaves": []}',
   '{"path": "x", "digest": "y", "leaves": {}}',
   '{"path": "x", "digest": "y",'
   ' "leaves": {"a": ["float32", [1]], "b": ["int8", [1]]}}'],
)  # fmt: skip
def test_a_base_that_is_not_described_is_damage(content, tmp_path):
  folder = tmp_path / 'base'
  folder.mkdir()
  (folder / 'metadata').write_text(content)
  with pytest.raises(DamagedError, match='base'):
    base.read(str(tmp_path))


def test_a_base_needs_something_frozen_and_its_layout(tmp_path):
  whole, where = toy_model.initializer(adafactor.Adafactor())
  state = whole.from_scratch(jax.random.key(1))
  base = saved(tmp_path / 'base', state, where)
  with pytest.raises(UserError, match='trains all of its parameters'):
    saved(tmp_path / 'run', state, where, base=base)
  with pytest.raises(UserError, match='legacy layout'):
    checkpoints.SaveCheckpointConfig(base=base).make_manager(
      str(tmp_path / 'run'), state, where, use_orbax=False
    )


def test_a_part_starts_from_scratch_where_it_is_missing(tmp_path):
  few = {
    name: shape
    for name, shape in toy_model.PARAMETERS.items()
    if 'mlp' not in name
  }
  there, where = toy_model.initializer(adafactor.Adafactor(), parameters=few)
  state = there.from_scratch(jax.random.key(1))
  path = saved(tmp_path, state, where)
  whole, _ = toy_model.initializer(adafactor.Adafactor())
  cfg = checkpoints.RestoreCheckpointConfig(
    path=path, mode='specific', from_scratch=('wi',)
  )
  key = jax.random.key(4)
  found = whole.from_checkpoint([cfg], init_rng=key)
  fresh = whole.from_scratch(key)
  np.testing.assert_array_equal(
    found.params['mlp']['wi']['kernel'], fresh.params['mlp']['wi']['kernel']
  )
  np.testing.assert_array_equal(
    found.params['norm']['scale'], state.params['norm']['scale']
  )
  # What is there is taken, and what the model lacks is no less an error.
  full = saved(tmp_path / 'full', fresh, where)
  cfg = checkpoints.RestoreCheckpointConfig(
    path=full, mode='specific', from_scratch=('wi',)
  )
  same(whole.from_checkpoint([cfg], init_rng=jax.random.key(9)), fresh)
  with pytest.raises(UserError, match='which the model lacks'):
    there.from_checkpoint([cfg], init_rng=key)


def _opened(**leaves):
  return {'target': {'m': leaves}}


_TABLE = np.arange(40, dtype=np.float32).reshape(10, 4)


def test_a_digest_is_of_names_types_shapes_and_first_numbers():
  first = base.digest(_opened(b=_TABLE, a=_TABLE[0].astype(np.int8)))
  # What checkpoints of earlier runs hold.
  assert first == '3779deeb476099fbe1ad803235343701'
  assert base.digest(_opened(a=_TABLE[0].astype(np.int8), b=_TABLE)) == first
  changed = [_opened(b=_TABLE, a=_TABLE[0]), _opened(b=_TABLE, c=_TABLE[0])]
  for place in ((0, 0), (7, 3)):
    table = _TABLE.copy()
    table[place] += 1
    changed.append(_opened(b=table, a=_TABLE[0].astype(np.int8)))
  assert len({first, *map(base.digest, changed)}) == 5


def _of_run(frozen, there, path='x'):
  frozen = {'m': {'b': jnp.asarray(frozen)}}
  return base.of_run(path, frozen, {'target': frozen}, lambda path: there)


def test_a_base_holds_what_the_run_has_frozen(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  there = _opened(b=_TABLE, more=_TABLE)
  found = _of_run(_TABLE, there)
  leaves = {'m/b': ('float32', (10, 4))}
  assert found == base.Base(f'{tmp_path}/x', base.digest(there), leaves)
  assert _of_run(_TABLE, there, 'gs://b/x').path == 'gs://b/x'
  for value in (5, 31.9):  # Of smaller and of larger bytes.
    table = _TABLE.copy()
    table[7, 3] = value
    with pytest.raises(UserError, match='x has other values of m/b than'):
      _of_run(table, there)
  for other, said in (
    (_opened(c=_TABLE), 'no such leaf'),
    (_opened(b=_TABLE[:9]), r'shape \(9, 4\)'),
    (_opened(b=np.vstack([_TABLE, _TABLE])), r'shape \(20, 4\)'),
  ):
    with pytest.raises(
      UserError, match=rf'^x: .*m/b of shape \(10, 4\) there, found {said}'
    ):
      _of_run(_TABLE, other)


def test_a_base_with_its_layers_one_by_one_completes_a_stack(tmp_path):
  layers = {f'layers_{i}': {'w': _TABLE + i} for i in range(2)}
  there = {'target': {'encoder': layers}}
  leaves = {'encoder/layers/w': ('bfloat16', (2, 10, 4))}
  described = base.Base('/was', base.digest(there), leaves)
  (tmp_path / 'base').mkdir()
  file = tmp_path / 'base/metadata'
  opened = []

  def opening(path):
    opened.append(path)
    return there

  def completed(described, place=None):
    file.write_text(json.dumps(described.as_json()))
    own = {'target': {'encoder': {'norm': np.ones(4)}}, 'state': 'its own'}
    return base.completed(str(tmp_path), own, place, opening)

  for place in (None, '/is'):
    found = completed(described, place)
    assert found['state'] == 'its own'
    assert set(found['target']['encoder']) == {'layers', 'norm'}
    stack = found['target']['encoder']['layers']['w']
    assert stack.dtype == jnp.bfloat16
    expected = np.stack([_TABLE, _TABLE + 1]).astype(jnp.bfloat16)
    np.testing.assert_array_equal(stack.get(), expected)
  assert opened == ['/was', '/is']
  for digest in ('0' * 32, 'f' * 32):
    other = dataclasses.replace(described, digest=digest)
    with pytest.raises(UserError, match=f'digest {digest}, but /is has the'):
      completed(other, '/is')
