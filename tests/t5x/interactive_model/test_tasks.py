"""Tasks give a notebook examples, and a notebook's examples make tasks."""

import pytest
import seqio

import gin
import t5x.eval
import t5x.infer
import t5x.train
from t5x import data, errors, interactive_model
from tests.t5x import entry_points, toy_task
from tests.t5x.interactive_model import test_model

_STEPS = (
  seqio.preprocessors.tokenize,
  seqio.preprocessors.append_eos_after_trim,
)


def test_batches_of_a_task_are_texts():
  batches = interactive_model.get_batches_from_seqio(
    toy_task.NAME, 'validation', batch_size=2, num_batches=3
  )
  flat = [example for batch in batches for example in batch]
  assert [len(batch) for batch in batches] == [2, 2, 2]
  assert flat == [
    {'input': inputs, 'target': targets}
    for inputs, targets in toy_task.texts('validation')[:6]
  ]
  ((example,),) = interactive_model.get_batches_from_seqio(
    toy_task.NAME,
    'validation',
    1,
    1,
    get_pretokenized_examples=False,
    sequence_length={'inputs': 3, 'targets': 6},
  )
  assert example['inputs'].shape == (3,) and example['inputs'][-1] == 1
  with pytest.raises(errors.UserError, match=r'need 16 .* has 10'):
    interactive_model.get_batches_from_seqio(toy_task.NAME, 'validation', 8, 2)


def test_texts_become_a_dataset():
  features = {
    name: seqio.Feature(toy_task.VOCABULARY) for name in ('inputs', 'targets')
  }
  dataset = interactive_model.get_dataset_from_natural_text_examples(
    [{'input': 'ab', 'target': 'x'}, {'input': 'c', 'target': 'y'}],
    _STEPS,
    {'inputs': 4, 'targets': 2},
    features,
  )
  rows = list(dataset.as_numpy_iterator())
  assert [row['inputs'].tolist() for row in rows] == [
    [*toy_task.VOCABULARY.encode('ab'), 1],
    [*toy_task.VOCABULARY.encode('c'), 1],
  ]
  assert rows[1]['targets_pretokenized'] == b'y'


def test_natural_text_trains_asks_and_evaluates(tmp_path):
  model = test_model._model(tmp_path)
  examples = [{'input': 'ab', 'target': 'xyz'}]
  for _ in range(40):
    model.train_step(examples)
  ((asked, said),) = model.predict(examples)
  assert said == 'xyz' and asked['inputs_pretokenized'] == 'ab'
  assert model.evaluate(examples, [toy_task.exact_match]) == {
    'exact_match': 100
  }
  with pytest.raises(errors.UserError, match="found 'input' and 'inputs'"):
    model.predict([{'input': 'a', 'inputs': 'a', 'targets': 'b'}])


def test_a_notebooks_examples_are_evaluated_by_a_program(tmp_path):
  """The gin file of a notebook, at the checkpoint that it has saved."""
  model = test_model._model(tmp_path / 'run')
  assert model.last_checkpoint is None
  examples = [{'input': f'q{i}', 'target': 'xyz'} for i in range(3)]
  for _ in range(40):
    model.train_step(examples)
  model.save_checkpoint()
  name = 'notebook_examples'
  task = interactive_model.get_seqio_task_from_examples(
    name, model, examples, _STEPS, [toy_task.exact_match]
  )
  try:
    assert task.splits == ('train', 'validation', 'test')
    with pytest.raises(errors.UserError, match='is registered already'):
      interactive_model.get_seqio_task_from_examples(
        name, model, examples, _STEPS
      )
    text = interactive_model.get_gin_config_from_interactive_model(
      model,
      interactive_model.T5XScriptType.EVALUATION,
      name,
      partitioner_config_str='partitioning.PjitPartitioner.num_partitions = 1',
      model_config_str='MODEL = @small_models.TableModel()',
      imports_str='from tests.t5x import small_models',
    )
    file = tmp_path / 'eval.gin'
    file.write_text(text)
    results = entry_points.call(t5x.eval.evaluate, [file])
  finally:
    seqio.TaskRegistry.remove(name)
  assert results == {str(model.last_checkpoint): {name: {'exact_match': 100}}}
  assert model.last_checkpoint == str(tmp_path / 'run' / 'checkpoint_40')


@pytest.mark.parametrize('kind', list(interactive_model.T5XScriptType))
def test_every_kind_of_script_is_a_whole_gin_file(kind, tmp_path):
  model = test_model._model(tmp_path)
  text = interactive_model.get_gin_config_from_interactive_model(
    interactive_model=model,
    script_type=kind,
    task_name=toy_task.NAME,
    partitioner_config_str='',
    model_config_str='MODEL = @small_models.TableModel()',
    imports_str='from tests.t5x import small_models',
    train_steps=3,
  )
  file = tmp_path / 'made.gin'
  file.write_text(text)
  module = {
    'pretraining': t5x.train,
    'finetuning': t5x.train,
    'evaluation': t5x.eval,
    'inference': t5x.infer,
  }[kind.value]
  with entry_points.main_module(module):
    entry_points.parse([file])
    scope = 'train/' if module is t5x.train else ''
    cfg = gin.get_configurable(f'{scope}utils.DatasetConfig')()
  assert isinstance(cfg, data.DatasetConfig) and not cfg.use_cached
  assert cfg.batch_size == 8 and cfg.task_feature_lengths == toy_task.LENGTHS
