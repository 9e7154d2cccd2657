"""A step that is not finite changes nothing, is written down, ends a run."""

import functools
import json
import types

import jax
import numpy as np
import pytest

from t5x import checkpoints, errors, metrics, trainer
from t5x.trainer import non_finite
from t5x.trainer import step as step_lib
from tests.t5x import small_run, toy_model


def _trainer(folder=None, **options):
  model = toy_model.ToyModel(noise=0.1)
  partitioner = toy_model.partitioner(data=2)
  state = toy_model.state(model)
  return trainer.Trainer(
    model,
    state,
    partitioner,
    [],
    folder and str(folder),
    partitioner.get_mesh_axes(state),
    jax.random.key(1),
    lambda _: 0.1,
    **{'num_microbatches': None, **options},
  )


def _bad(value=np.nan, row=3):
  batch = toy_model.batch(seed=7)
  batch['x'][row, 0] = value
  return batch


def _leaves(state):
  return [np.asarray(x) for x in jax.tree.leaves(state)]


@pytest.mark.parametrize(
  ('value', 'microbatches'), [(np.nan, None), (np.inf, 4), (1e25, None)]
)
def test_a_step_that_is_not_finite_changes_nothing_but_the_step(
  tmp_path, value, microbatches
):
  with _trainer(tmp_path, num_microbatches=microbatches) as t:
    t.train(iter([toy_model.batch(seed=1)]), 1).result()
    before = _leaves(t.train_state.replace_step(2))
    values = t.train(iter([_bad(value)]), 1).result()
    assert int(t.train_state.step) == 2
    assert values['skipped_steps'].value == 1
    for old, new in zip(before, _leaves(t.train_state), strict=True):
      np.testing.assert_array_equal(new, old)
    good = t.train(iter([toy_model.batch(seed=2)]), 1).result()
    assert good['skipped_steps'].value == 0
    assert not np.array_equal(before[0], _leaves(t.train_state)[0])


def test_the_examples_of_such_a_step_are_written(tmp_path):
  with _trainer(tmp_path) as t:
    t.train(iter([toy_model.batch(), _bad(), toy_model.batch()]), 3).result()
  (file,) = (tmp_path / 'non_finite').iterdir()
  assert file.name == 'step_2.jsonl'
  rows = [json.loads(line) for line in file.read_text().splitlines()]
  assert [row['row'] for row in rows] == list(range(8))
  assert [row['step'] for row in rows] == [2] * 8
  found = np.array([row['x'] for row in rows])
  np.testing.assert_array_equal(np.isnan(found), np.isnan(_bad()['x']))
  assert found[0] == pytest.approx(_bad()['x'][0])


@pytest.mark.parametrize('limit', [1, 2, 3])
def test_so_many_in_a_row_end_the_run_before_another_step_is_applied(
  tmp_path, limit
):
  good = [toy_model.batch(seed=i) for i in range(9)]
  # One less than the limit, a good one, then as many as the limit.
  batches = [good[0], *[_bad()] * (limit - 1), good[1], *[_bad()] * limit]
  with _trainer(tmp_path, max_skipped_steps=limit) as t:
    with pytest.raises(non_finite.NonFiniteError, match='Lower') as raised:
      t.train(iter([*batches, *good]), len(batches) + 4).result()
    assert raised.value.exit_code == 3
    assert raised.value.last_good_step == len(batches) - limit
    assert int(t.train_state.step) == len(batches)
    ended = _leaves(t.train_state.params)
  with _trainer() as t:
    t.train(iter(batches[: len(batches) - limit]), len(batches) - limit)
    for mine, other in zip(ended, _leaves(t.train_state.params), strict=True):
      np.testing.assert_array_equal(mine, other)


def test_five_in_a_row_are_the_limit_by_default():
  with _trainer() as t, pytest.raises(non_finite.NonFiniteError) as raised:
    t.train(iter([_bad()] * 6), 6).result()
  assert str(raised.value).startswith('Steps 1 to 5 ')


_SKIPPED = {non_finite.SKIPPED: metrics.Sum(1)}


def _guard(folder, limit=200, **vocabularies):
  model = types.SimpleNamespace(**vocabularies)
  return non_finite.NonFiniteGuard(model, str(folder), limit)


def test_a_run_writes_a_hundred_such_batches_at_most(tmp_path):
  # A host whose disk has nothing of the run yet makes the folders.
  folder = tmp_path / 'new' / 'run'
  guard = _guard(folder)
  batch = {'x': jax.numpy.ones((2, 3))}
  guard.after_step(1, _SKIPPED, batch)
  for i in range(98):
    (folder / 'non_finite' / f'other_{i}').touch()
  guard.after_step(2, _SKIPPED, batch)
  guard.after_step(3, _SKIPPED, batch)
  (folder / 'non_finite' / 'of_another_process').touch()
  guard.after_step(4, _SKIPPED, batch)
  written = sorted(p.name for p in (folder / 'non_finite').glob('step*'))
  assert written == ['step_1.jsonl', 'step_2.jsonl']


def test_the_host_waits_only_where_the_next_step_may_end_the_run(tmp_path):
  guard, waits = _guard(tmp_path, limit=3), []
  for step in (1, 2):
    waits.append(guard.waits)
    guard.after_step(step, _SKIPPED, {'x': jax.numpy.ones((2, 3))})
  assert [*waits, guard.waits] == [False, False, True]


def test_a_step_that_tells_nothing_was_applied(tmp_path):
  # Of somebody's trainer, which doesn't skip.
  _guard(tmp_path).after_step(4, {}, {'x': jax.numpy.ones((2, 3))})
  assert not list(tmp_path.iterdir())


def test_tokens_are_written_as_text_where_there_is_a_vocabulary(
  tmp_path, monkeypatch, plain_locale
):
  decoder = types.SimpleNamespace(decode=lambda ids: 'é' * len(ids))
  guard = _guard(tmp_path, input_vocabulary=decoder, output_vocabulary=decoder)
  monkeypatch.setattr(non_finite.jax, 'process_index', lambda: 3)
  guard.after_step(
    7, _SKIPPED, {'encoder_input_tokens': jax.numpy.ones((1, 2))}
  )
  file = tmp_path / 'non_finite' / 'step_7-process_3.jsonl'
  assert json.loads(file.read_bytes()) == {
    'step': 7,
    'row': 0,
    'encoder_input_tokens': [1, 1],
    'encoder_input_text': 'éé',
  }
  assert 'éé' in file.read_text(encoding='utf-8')
  # Without one, there are the tokens alone.
  _guard(tmp_path).after_step(
    8, _SKIPPED, {'decoder_target_tokens': jax.numpy.ones((1, 2))}
  )
  file = tmp_path / 'non_finite' / 'step_8-process_3.jsonl'
  assert 'decoder_target_text' not in json.loads(file.read_bytes())


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _bent(value, w, slope):
  """The value, with a slope beside its own."""
  del w, slope
  return value


def _bent_forward(value, w, slope):
  del slope
  return value, w


def _bent_backward(slope, w, cotangent):
  return cotangent, jax.numpy.full_like(w, slope)


_bent.defvjp(_bent_forward, _bent_backward)


@pytest.mark.parametrize(('loss', 'slope'), [(np.nan, 0.0), (0.0, np.inf)])
def test_neither_loss_nor_gradients_alone_make_a_step(loss, slope):
  class Model(toy_model.ToyModel):
    def loss_fn(self, params, batch, dropout_rng):
      value, found = super().loss_fn(params, batch, dropout_rng)
      return _bent(value + loss, params['w'], slope), found

  model = Model()
  state = toy_model.state(model)
  new, found = step_lib.train_with_lr(
    state, toy_model.batch(), 0.1, jax.random.key(0), model, None
  )
  assert int(found[non_finite.SKIPPED].total) == 1
  assert int(new.step) == 1
  np.testing.assert_array_equal(new.params['w'], state.params['w'])


def test_a_limit_below_one_is_refused():
  with pytest.raises(errors.UserError, match=r'max_skipped_steps.*found 0'):
    _trainer(max_skipped_steps=0)


class _BadFrom(small_run.NoisyTable):
  """Its loss is NaN for the rows of one half of the toy task."""

  def loss_fn(self, params, batch, dropout_rng):
    loss, metrics = super().loss_fn(params, batch, dropout_rng)
    # The first letter of the answer is the last digit of the question.
    odd = (batch['decoder_target_tokens'][:, 0] == ord('1') + 3).any()
    return jax.numpy.where(odd, jax.numpy.nan, loss), metrics


def test_a_run_that_ends_so_leaves_the_checkpoint_from_before(tmp_path):
  folder = tmp_path / 'run'
  with pytest.raises(non_finite.NonFiniteError) as raised:
    small_run.call(
      folder,
      total_steps=40,
      period=100,
      model=_BadFrom(),
      max_skipped_steps=1,
      devices=1,
    )
  good = raised.value.last_good_step
  if not good:
    pytest.fail('The first batch is bad; choose another seed.')
  assert checkpoints.all_steps(str(folder)) == [good]
  position = json.loads(
    (folder / f'checkpoint_{good}' / 'dataset' / 'metadata').read_text()
  )
  assert position['batches'] == good
  straight = tmp_path / 'straight'
  small_run.call(straight, total_steps=good, devices=1)
  mine, other = (
    checkpoints.load_t5x_checkpoint(str(f), good) for f in (folder, straight)
  )
  jax.tree.map(np.testing.assert_array_equal, mine, other)
  written = (folder / 'non_finite' / f'step_{good + 1}.jsonl').read_text()
  texts = [json.loads(line) for line in written.splitlines()]
  assert any(t['decoder_target_text'].startswith('1') for t in texts)
