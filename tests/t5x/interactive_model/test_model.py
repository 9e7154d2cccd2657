"""A few examples are enough to train, ask, score, evaluate, save and go on."""

import numpy as np
import pytest
import seqio

from t5x import errors, interactive_model
from tests import small_vocabularies
from tests.t5x import small_models, toy_task

_EXAMPLE = {'inputs': 'ab', 'targets': 'xyz'}


def _model(output_dir, **options):
  return interactive_model.InteractiveModel(
    **{
      'batch_size': 8,
      'task_feature_lengths': toy_task.LENGTHS,
      'output_dir': str(output_dir),
      'partitioner': small_models.partitioner(),
      'model': small_models.TableModel(),
      'dtype': 'float32',
      'restore_mode': 'specific',
      'checkpoint_path': '',
      'input_shapes': small_models.SHAPES,
      **options,
    }
  )


def test_one_example_is_learnt_saved_and_still_known(tmp_path):
  model = _model(tmp_path)
  before = model.score([_EXAMPLE])[0][1]
  looks = model.train_loop(
    40,
    eval_period=20,
    train_batches=[_EXAMPLE],
    predict_batches=['any', 'thing'],
    eval_batches=[_EXAMPLE],
    metrics_fns=[toy_task.exact_match, toy_task.mean_score],
  )
  assert [look['step'] for look in looks] == [20, 40] and model.step == 40
  ((pairs, aux),) = looks[-1]['predictions']
  assert [text for _, text in pairs] == ['xyz', 'xyz']
  assert pairs[1][0]['inputs_pretokenized'] == 'thing'
  assert len(aux['scores']) == 2
  (metrics,) = looks[-1]['metrics']
  assert metrics['exact_match'] == 100 and metrics['mean_score'] > before
  assert float(model.train_summary['loss'].value) < -before

  model.save_checkpoint()
  again = _model(tmp_path)
  assert again.step == 40 and again.predict(['x'])[0][1] == 'xyz'
  np.testing.assert_array_equal(
    again.train_state.params['table'], model.train_state.params['table']
  )


def test_texts_alone_are_enough_to_train_ask_and_score(tmp_path):
  """Every call takes a list of strings; they have empty targets."""
  model = _model(tmp_path, add_eos=False)
  model.train_step(['a', 'b', 'c'])
  assert model.step == 1
  pairs, aux = model.predict_with_aux(['a', 'b'])
  assert [example['inputs_pretokenized'] for example, _ in pairs] == ['a', 'b']
  assert model.predict(['a', 'b']) == pairs and len(aux['scores']) == 2
  # No token of a target, no loss.
  assert [score for _, score in model.score(['a', 'b'])] == [0, 0]
  metrics = model.evaluate(['a', 'b'], [toy_task.exact_match])
  said = [text for _, text in pairs]
  assert metrics == {'exact_match': 50.0 * sum(text == '' for text in said)}


def test_each_call_has_its_own_examples(tmp_path):
  """The pipeline of a call is that of an earlier one, with other rows."""
  model = _model(tmp_path)
  for text in ('ab', 'b'):
    assert model.predict([text])[0][0]['inputs_pretokenized'] == text
  model.train_step([_EXAMPLE] * 3)
  three = float(model.train_summary['loss'].value)
  scores = [score for _, score in model.score([_EXAMPLE, {**_EXAMPLE}])]
  assert scores[0] == scores[1] and three > 0
  # Other columns are another pipeline.
  row = {'inputs': 'a', 'targets': 'x', 'extra': 7}
  assert model.predict([row])[0][0]['extra'] == 7
  assert model.predict(['c'])[0][0]['inputs_pretokenized'] == 'c'


def test_own_preprocessors_and_postprocessor(tmp_path):
  @seqio.map_over_dataset
  def question(row):
    return {'inputs': 'q ' + row['inputs'], 'targets': row['targets']}

  steps = [
    question,
    seqio.preprocessors.tokenize,
    seqio.preprocessors.append_eos_after_trim,
  ]
  model = _model(tmp_path)
  for _ in range(2):
    model.train_step_with_preprocessors([_EXAMPLE] * 3, steps)
  for _ in range(28):
    model.train_step([_EXAMPLE] * 3)
  pairs, _ = model.infer_with_preprocessors(
    interactive_model.InferenceType.PREDICT, [_EXAMPLE], steps
  )
  assert pairs[0][0]['inputs_pretokenized'] == 'q ab'
  assert pairs[0][1] == 'xyz'
  found = []
  model.evaluate_with_preprocessors(
    [_EXAMPLE],
    steps,
    [lambda targets, predictions: found.extend([targets, predictions]) or {}],
    postprocessor=lambda text, **kwargs: text.upper(),
  )
  assert found == [['XYZ'], ['XYZ']]


@pytest.mark.parametrize(
  ('examples', 'message'),
  [
    ([], 'expected a list of examples'),
    ('text', 'expected a list of examples'),
    ([_EXAMPLE] * 9, 'expected 1 to 8 examples .batch_size., found 9'),
    ([_EXAMPLE, {'inputs': 'a'}], 'the same features'),
  ],
)
def test_examples_that_make_no_batch_are_refused(
  tmp_path_factory, examples, message
):
  model = _shared(tmp_path_factory)
  with pytest.raises(errors.UserError, match=message):
    model.train_step(examples)


_models = []


def _shared(tmp_path_factory):
  if not _models:
    _models.append(_model(tmp_path_factory.mktemp('shared')))
  return _models[0]


def test_an_absent_checkpoint_is_refused(tmp_path):
  with pytest.raises(errors.UserError, match=r'no checkpoint in .*nothing'):
    _model(
      tmp_path, checkpoint_path=str(tmp_path / 'nothing'), restore_mode='latest'
    )


def test_a_vocabulary_without_the_engines_ids_is_refused(tmp_path):
  table = small_models.TableModel()
  table.output_vocabulary = small_vocabularies.made(eos_id=-1, bos_id=1)
  with pytest.raises(errors.UserError, match=r'output vocabulary .* no end'):
    _model(tmp_path, model=table)
  # Texts without an end need none.
  _model(tmp_path, model=table, add_eos=False)
