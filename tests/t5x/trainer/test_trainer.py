"""The trainer: golden steps, resuming, what runs ahead, what is written."""

import json
import pathlib
import subprocess
import sys
import threading
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x import adafactor, errors, models, partitioning, train_state, trainer
from t5x.examples.t5 import network
from t5x.trainer import metrics_manager
from t5x.trainer import step as step_lib
from t5x.trainer import trainer as trainer_lib
from tests import golden_data
from tests.t5x import tiny_model, toy_model

RATE = 0.1


def make(model=None, state=None, data=8, cls=trainer.Trainer, **kwargs):
  model = model or toy_model.ToyModel()
  state = state or toy_model.state(model)
  partitioner = toy_model.partitioner(data)
  return cls(
    model,
    state,
    partitioner,
    **{
      'eval_names': ['task', 'other'],
      'summary_dir': None,
      'train_state_axes': partitioner.get_mesh_axes(state),
      'rng': jax.random.key(1),
      'learning_rate_fn': lambda step: RATE / (step + 1),
      'num_microbatches': None,
      **kwargs,
    },
  )


def batches(n, start=0, **kwargs):
  return iter([toy_model.batch(seed=start + i, **kwargs) for i in range(n)])


def numbers(values):
  return {name: float(v.value) for name, v in values.items()}


def lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize('name', ['t5x_1_1', 't5x_1_0'])
def test_four_adafactor_steps_agree_with_t5x(name):
  golden = golden_data.load(name)
  vocabulary = types.SimpleNamespace(eos_id=1)
  model = models.EncoderDecoderModel(
    network.Transformer(network.T5Config(**golden.config_kwargs)),
    vocabulary,
    vocabulary,
    adafactor.Adafactor(decay_rate=0.8, step_offset=0),
    z_loss=1e-4,
  )
  shapes = {k: v.shape for k, v in golden.batch.items()}
  axes = jax.eval_shape(
    lambda key: model.get_initial_variables(key, shapes), jax.random.key(0)
  )['params_axes']
  state = train_state.FlaxOptimTrainState.create(
    model.optimizer_def,
    {
      'params': jax.tree.map(jnp.asarray, golden.params),
      'params_axes': axes,
    },
  )
  steps = golden.facts['adafactor_lr1e-3']['loss_and_grad_norm']
  with make(model, state, data=1, learning_rate_fn=lambda _: 1e-3) as t:
    for loss, norm in steps:
      values = numbers(t.train(iter([golden.batch]), 1).result())
      np.testing.assert_allclose(values['loss'], loss, rtol=1e-5)
      np.testing.assert_allclose(values['grad_norm'], norm, rtol=1e-5)
      assert values['learning_rate'] == pytest.approx(1e-3)
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
      t.train_state.params,
      golden.params_after_4_adafactor_steps,
    )


def test_a_run_that_goes_on_from_a_copy_ends_where_it_would_have():
  model = tiny_model.model(config={'dropout_rate': 0.2})
  options = {'data': 1, 'num_microbatches': 2}
  rows = [tiny_model.batch(seed=i) for i in range(4)]
  with make(model, tiny_model.state(model), **options) as t:
    t.train(iter(rows[:2]), 2)
    copy = jax.tree.map(np.array, t.train_state.state_dict())
    fresh = t.train_state.restore_state(jax.tree.map(jnp.zeros_like, copy))
    t.train(iter(rows[2:]), 2, start_step=2).result()
    whole = jax.tree.map(np.array, t.train_state.state_dict())
    compiled = t._programs
  with make(model, fresh.restore_state(copy), **options) as t:
    t._programs = compiled
    t.train(iter(rows[2:]), 2).result()
    jax.tree.map(
      np.testing.assert_array_equal, t.train_state.state_dict(), whole
    )
  assert int(whole['state']['step']) == 4


def test_each_step_draws_its_own_dropout():
  model = toy_model.ToyModel(noise=1.0)
  with make(model, learning_rate_fn=lambda _: 0.0) as t:
    losses = [
      numbers(t.train(batches(1), 1).result())['loss'] for _ in range(3)
    ]
  assert len(set(losses)) == 3


def test_keys_may_be_of_any_kind():
  computer = step_lib.WeightMetricsComputer()
  key = jax.random.key(1, impl='rbg')
  model = toy_model.ToyModel(noise=1.0)
  with make(model, data=1, rng=key, weight_metrics_computer=computer) as t:
    found = numbers(t.train(batches(1), 1).result())
  assert np.isfinite(found['loss']) and found['weight_rms/w'] > 0


def test_the_state_is_donated():
  with make() as t:
    t.train(batches(1), 1).result()
    before = t.train_state
    t.train(batches(1), 1).result()
    assert all(x.is_deleted() for x in jax.tree.leaves(before))


def test_the_host_is_one_step_ahead_and_no_more():
  events = []
  with make() as t:
    t.step_callback = lambda n: events.append(('done', n))
    t.compile_train(toy_model.batch())
    ((key, step),) = t._programs.items()

    def logged(*args):
      events.append(('dispatched', sum(e[0] == 'dispatched' for e in events)))
      return step(*args)

    t._programs[key] = logged
    t.train(batches(3), 3)
    first = list(events)
    t.train(batches(1), 1, start_step=3).result()
  assert first == [
    ('dispatched', 0),
    ('dispatched', 1),
    ('done', 1),
    ('dispatched', 2),
    ('done', 2),
  ]
  assert events[5:] == [('dispatched', 3), ('done', 3), ('done', 4)]


def test_metrics_of_several_steps_are_merged():
  with make() as t:
    values = numbers(t.train(batches(3), 3).result())
  singles = []
  with make() as t:
    for i in range(3):
      singles.append(numbers(t.train(batches(1, i), 1).result()))
  np.testing.assert_allclose(
    values['loss'], np.mean([s['loss'] for s in singles]), rtol=1e-6
  )
  assert values['rows'] == 24
  assert values['learning_rate'] == pytest.approx(
    RATE * (1 + 1 / 2 + 1 / 3) / 3
  )
  assert values['timing/steps_per_second'] == pytest.approx(
    3 / values['timing/seconds']
  )


def test_summaries_are_written_as_jsonl_and_events(tmp_path):
  with make(summary_dir=str(tmp_path)) as t:
    t.train(batches(2), 2)
    t.train(batches(1), 1)
    t.eval({'task': batches(2)})
  compiled, first, second = lines(tmp_path / 'train' / 'metrics.jsonl')
  assert compiled['timing/compilation_seconds'] > 0
  assert (first['step'], second['step']) == (2, 3)
  assert {'loss', 'grad_norm', 'learning_rate', 'rows'} <= set(first)
  # Of the steps of each call, though one was still in flight.
  assert (first['rows'], second['rows']) == (16, 8)
  assert 'rare' not in first
  (row,) = lines(tmp_path / 'training_eval' / 'task' / 'metrics.jsonl')
  assert row['step'] == 3 and row['rows'] == 16
  for part in ('train', 'training_eval/task'):
    assert list((tmp_path / part).glob('events.out.tfevents*'))


def test_compiling_is_reported_apart_from_the_steps(tmp_path, monkeypatch):
  clock = types.SimpleNamespace(now=1000.0)

  def perf_counter():
    clock.now += 0.5
    return clock.now

  watch = types.SimpleNamespace(perf_counter=perf_counter)
  for module in (trainer_lib, metrics_manager):
    monkeypatch.setattr(module, 'time', watch)
  compile_step = partitioning.PjitPartitioner.compile

  def takes_long(*args):
    clock.now += 3000
    return compile_step(*args)

  monkeypatch.setattr(partitioning.PjitPartitioner, 'compile', takes_long)
  with make(summary_dir=str(tmp_path), data=1) as t:
    found = numbers(t.train(batches(1), 1, start_step=5).result())
    assert 0 < found['timing/seconds'] < 40
    clock.now += 50  # Somebody does something else.
    both = iter([toy_model.batch(), toy_model.batch(rows=4)])
    t.train(both, 2, start_step=6).result()
    t.compile_eval({'task': toy_model.batch()})
    clock.now += 50
    by_task = t.eval({'task': batches(1)})
    assert 0 < numbers(by_task['task'])['timing/seconds'] < 40
    clock.now += 50
    found = numbers(t.train(batches(1), 1, start_step=8).result())
    assert 0 < found['timing/seconds'] < 40
  key = 'timing/compilation_seconds'
  rows = lines(tmp_path / 'train' / 'metrics.jsonl')
  took = [(row['step'], int(row[key])) for row in rows if key in row]
  assert took == [(5, 3000), (7, 3000)]


def test_who_leaves_waits_for_the_last_step_and_ends_the_threads():
  before, seen = set(threading.enumerate()), []

  def threads():
    return {x.name for x in threading.enumerate() if x not in before}

  with make(data=1) as t:
    t.step_callback = seen.append
    t.train(batches(1), 1).result()
    assert seen == [1]
    t.train(batches(1), 1)
    t.eval({'task': batches(1)})
    assert threads() == {'metrics_train_0', 'metrics_training_eval_task_0'}
  assert seen == [1, 2]
  assert not threads()


def test_a_mean_over_nothing_is_left_out_and_nan_is_not(tmp_path):
  model = toy_model.ToyModel()
  state = toy_model.state(model)
  broken = state.replace_params({'w': jnp.full((3, 2), jnp.nan)})
  with make(model, broken, summary_dir=str(tmp_path)) as t:
    values = numbers(t.train(batches(1), 1).result())
    assert np.isnan(values['loss']) and np.isnan(values['grad_norm'])
    assert 'rare' not in values
    values = numbers(t.train(batches(1, rare=1.0), 1).result())
    assert np.isnan(values['rare'])
  assert np.isnan(lines(tmp_path / 'train' / 'metrics.jsonl')[1]['loss'])


def test_evaluation_is_per_task_and_over_all_batches():
  with make() as t:
    by_task = t.eval({'task': batches(3), 'other': batches(1, rare=1.0)})
    whole = {
      k: np.concatenate([b[k] for b in batches(3)]) for k in toy_model.batch()
    }
    model, params = toy_model.ToyModel(), t.train_state.params
    loss, _ = model.loss_fn(params, model.prepare_batch(whole), None)
  np.testing.assert_allclose(
    float(by_task['task']['loss'].value), loss, rtol=1e-5
  )
  assert 'rare' not in by_task['task'] and 'rare' in by_task['other']
  assert float(by_task['task']['rows'].value) == 24


def test_a_task_without_batches_has_no_metrics():
  with make() as t:
    assert t.eval({'task': iter([])}) == {'task': {}}


def test_an_unknown_task_is_reported():
  with (
    make() as t,
    pytest.raises(errors.UserError, match="Did you mean 'task'"),
  ):
    t.eval({'tsak': batches(1)})


def test_batches_that_end_early_are_reported():
  with (
    make() as t,
    pytest.raises(errors.UserError, match='after 2 of 3 steps, at step 9'),
  ):
    t.train(batches(2), 3, start_step=7)


def test_no_steps_are_refused():
  with make() as t, pytest.raises(ValueError, match='num_steps > 0: 0'):
    t.train(batches(1), 0)


def test_a_trainer_has_both_steps():
  with pytest.raises(
    TypeError, match=r'_partitioned_eval_step\W+_partitioned_train_step'
  ):
    make(cls=trainer.BaseTrainer)


def test_compiling_beforehand_is_all_the_compiling():
  with make() as t:
    t.compile_train(toy_model.batch())
    t.compile_eval({'task': toy_model.batch()})
    known = dict(t._programs)
    t.train(batches(2), 2).result()
    t.eval({'task': batches(1)})
    assert t._programs == known


def test_a_batch_that_mesh_and_microbatches_do_not_divide_is_refused():
  match = (
    'Batch size 8 is not divisible by 16: .* has 8 data shards times 2'
    ' microbatches. Set BATCH_SIZE to a multiple of 16, such as 16'
  )
  with (
    make(num_microbatches=2) as t,
    pytest.raises(errors.UserError, match=match),
  ):
    t.train(batches(1), 1)
  with (
    make(num_microbatches=2) as t,
    pytest.raises(errors.UserError, match=match),
  ):
    t.lower_train(toy_model.batch())
  with make(num_microbatches=2) as t:
    assert 'stablehlo' in t.lower_train(toy_model.batch(rows=16)).as_text()


def test_sharded_batches_are_taken_as_they_are():
  with make() as t:
    placed = toy_model.partitioner().shard_batch(toy_model.batch())
    a = numbers(t.train(iter([placed]), 1).result())['loss']
  with make() as t:
    b = numbers(t.train(batches(1), 1).result())['loss']
  assert a == b


def test_what_fails_in_the_background_is_raised(tmp_path):
  with make(summary_dir=str(tmp_path)) as t:
    t.train(batches(1), 1).result()

    def fail(step, scalars):
      raise OSError('disk full')

    t.train_metrics_manager.summary_writer.write_scalars = fail
    future = t.train(batches(1), 1)
    with pytest.raises(OSError, match='disk full'):
      future.result()
    # Whoever didn't ask is told by the next call, and by the end.
    with pytest.raises(OSError, match='disk full'):
      t.train(batches(1), 1)
    with pytest.raises(OSError, match='disk full'):
      t.close()
    t._summary = None


def test_the_steps_need_neither_tensorflow_nor_seqio():
  code = (
    'import sys; from t5x import trainer, models, partitioning, adafactor,'
    ' optimizers, decoding, losses; from t5x.examples.t5 import network;'
    ' bad = {"tensorflow", "seqio", "clu.metric_writers"} & set(sys.modules);'
    ' assert not bad, bad'
  )
  root = pathlib.Path(trainer_lib.__file__).parents[2]
  subprocess.run([sys.executable, '-c', code], check=True, cwd=root)
