"""A step that was compiled without a state is the step of a run's trainer."""

import functools
import json
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x import data, errors, partitioning, trainer
from t5x.trainer import compile_ahead
from tests.t5x import small_run, toy_model


def _trainer(
  model, state, key, cls=trainer.Trainer, num_microbatches=None, folder=None
):
  partitioner = toy_model.partitioner(4)
  return cls(
    model,
    state,
    partitioner,
    eval_names=[],
    summary_dir=folder,
    train_state_axes=partitioner.get_mesh_axes(state),
    rng=key,
    learning_rate_fn=lambda step: 0.1 / (step + 1),
    num_microbatches=num_microbatches,
  )


def _ahead(model, batch, key=None, **options):
  """Compiles for shapes, as a run does while it has no more than them."""
  key = jax.random.key(1) if key is None else key
  shapes = jax.eval_shape(functools.partial(toy_model.state, model))
  ahead = compile_ahead.CompileAhead(
    functools.partial(
      _trainer, model, shapes, jax.eval_shape(lambda: key), **options
    ),
    jax.eval_shape(lambda: batch),
  )
  ahead.begin()
  return ahead


class _Waits(trainer.Trainer):
  """Compiles only after `go`, which whoever began it gives."""

  go = threading.Event()

  def compile_train(self, batch):
    assert self.go.wait(5)
    super().compile_train(batch)


def test_a_trainer_takes_what_was_compiled_ahead_and_steps_alike(tmp_path):
  model = toy_model.ToyModel(noise=1.0)
  batches = [toy_model.batch(seed=i) for i in range(2)]
  states = []
  _Waits.go.clear()
  begun = _ahead(model, batches[0], cls=_Waits)
  _Waits.go.set()  # Had `begin` waited, this would come too late.
  for ahead, folder in ((None, None), (begun, str(tmp_path))):
    with _trainer(
      model, toy_model.state(model), jax.random.key(1), folder=folder
    ) as t:
      if ahead is not None:
        ahead.give_to(t)
        taken = dict(t._programs)
        assert len(taken) == 1
      t.train(iter(batches), 2).result()
      if ahead is not None:
        assert t._programs == taken
      states.append(jax.tree.map(np.array, t.train_state.state_dict()))
  jax.tree.map(np.testing.assert_array_equal, *states)
  text = (tmp_path / 'train' / 'metrics.jsonl').read_text()
  compiled = json.loads(text.splitlines()[0])
  assert 0 < compiled['timing/compilation_seconds'] < 60


def test_a_state_of_another_type_is_compiled_for_anew():
  model = toy_model.ToyModel()
  ahead = _ahead(model, toy_model.batch())
  state = toy_model.state(model)
  half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), state.params)
  with _trainer(model, state.replace_params(half), jax.random.key(1)) as t:
    ahead.give_to(t)
    assert not t._programs
    t.train(iter([toy_model.batch()]), 1).result()
    state = toy_model.state(model)
    with _trainer(model, state, jax.random.key(1)) as other:
      other.take_compiled(t)
      assert not other._programs


def test_a_batch_that_cannot_be_split_is_refused():
  model = toy_model.ToyModel()
  ahead = _ahead(model, toy_model.batch(), num_microbatches=3)
  state = toy_model.state(model)
  with (
    _trainer(model, state, jax.random.key(1)) as t,
    pytest.raises(errors.UserError, match='is not divisible by 12'),
  ):
    ahead.give_to(t)


class _Reader(trainer.Trainer):
  """Somebody's trainer, which looks at the state that it is given."""

  def __init__(self, model, train_state, *args, **kwargs):
    self.first_step = int(train_state.step)
    super().__init__(model, train_state, *args, **kwargs)


def test_a_trainer_that_needs_values_is_compiled_for_when_they_are_there():
  model = toy_model.ToyModel()
  ahead = _ahead(model, toy_model.batch(), cls=_Reader)
  state = toy_model.state(model)
  with _trainer(model, state, jax.random.key(1), cls=_Reader) as t:
    ahead.give_to(t)
    t.train(iter([toy_model.batch()]), 1).result()
    assert int(t.train_state.step) == t.first_step + 1


@pytest.mark.parametrize('error', [AttributeError, TypeError])
def test_so_is_one_that_asks_shapes_for_what_they_lack(error):
  def make():
    raise error('no values here')

  ahead = compile_ahead.CompileAhead(make, {})
  ahead.begin()
  ahead.give_to(None)


@pytest.mark.parametrize(
  ('backend', 'processes', 'asked'),
  [('gpu', 1, 1), ('gpu', 2, 0), ('tpu', 2, 1), ('cpu', 2, 1)],
)
def test_processes_with_gpus_compile_later(
  backend, processes, asked, monkeypatch
):
  # Compiled in a thread, their programs could wait for each other forever.
  monkeypatch.setattr(jax, 'default_backend', lambda: backend)
  monkeypatch.setattr(jax, 'process_count', lambda: processes)
  made = []
  ahead = compile_ahead.CompileAhead(lambda: made.append(1), {})
  ahead.begin()
  assert len(made) == asked
  ahead.give_to(None)  # What was made is no `BaseTrainer`: nothing is taken.


def test_a_run_compiles_once_and_a_finished_one_not_at_all(
  tmp_path, monkeypatch
):
  compiled = []
  compile_step = partitioning.PjitPartitioner.compile

  def counted(self, step, state, batch, *rng):
    compiled.append((jax.tree.leaves(batch)[0].shape[0], len(rng)))
    return compile_step(self, step, state, batch, *rng)

  monkeypatch.setattr(partitioning.PjitPartitioner, 'compile', counted)
  small_run.call(tmp_path, total_steps=2)
  assert compiled == [(8, 1)]  # A training step takes a key.
  small_run.call(tmp_path, total_steps=2)
  assert len(compiled) == 1
  small_run.call(tmp_path, total_steps=3)
  assert len(compiled) == 2


def test_shapes_of_a_global_batch():
  dataset = data.get_dataset(
    small_run.data_config('train', batch_size=8),
    0,
    2,
    small_run.NoisyTable.FEATURE_CONVERTER_CLS,
  )
  shapes = data.global_batch_shapes(dataset.element_spec, 8)
  assert {spec.shape[0] for spec in dataset.element_spec.values()} == {4}
  assert {x.shape for x in shapes.values()} == {(8, 6), (8, 10)}
