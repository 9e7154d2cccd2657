"""Which tasks an experiment registers, and what each is made of."""

import json

import pytest
import seqio
import tensorflow as tf

from dss_jax import mixtures
from dss_jax.pipeline import preprocessors, registration, sources

pytestmark = pytest.mark.usefixtures('tfds_dir')


@pytest.fixture
def own(tmp_path):
  """Returns a file of own rows, each with two rationales."""
  path = tmp_path / 'rows.jsonl'
  rows = (
    {'input': f'Q{n}?', 'label': 'ab'[n % 2], 'rationale': ['one', 'two']}
    for n in range(20)
  )
  path.write_text(''.join(f'{json.dumps(row)}\n' for row in rows))
  return str(path)


def made(data_set='cqa', **options):
  return mixtures.Experiment(data_set, **options)


def kinds_of(experiment):
  return [
    (name.partition('_sample_')[2], kind.number)
    for name, kind in registration.rationales_of_tasks(experiment)
  ]


def test_rationales_are_of_the_tasks_that_have_them():
  both = {'teachers': ('palm', 'mine')}
  assert kinds_of(made()) == [('rationale_palm', 1)]
  assert kinds_of(made(**both)) == [
    ('rationale_palm', 1), ('rationale2_mine', 2)
  ]  # fmt: skip
  assert kinds_of(made(paired=True, **both)) == [
    ('paired_gold_palm.and.mine', 1), ('paired_gold_palm.and.mine', 2)
  ]  # fmt: skip
  assert kinds_of(made(rationale_rate=0)) == []
  assert kinds_of(made(method='finetune', paired=True)) == []
  for paired in (False, True):
    assert kinds_of(made(method='single_task', paired=paired)) == [
      ('single_gold_palm', 1)
    ]


def test_rates_are_those_of_the_rationales_and_else_one():
  rates = [rate for _, rate in registration.train_tasks(
    made(rationale_rate=0.25, teachers=('palm', 'mine'))
  )]  # fmt: skip
  assert rates == [1.0, 0.25, 0.25]
  for options in ({'method': 'finetune'}, {'paired': True}):
    ((_, rate),) = registration.train_tasks(made(**options))
    assert rate == 1.0
  experiment = made()
  registration.register(experiment)
  mixture = seqio.get_mixture_or_task(mixtures.eval_name(experiment))
  assert [mixture.get_rate(task) for task in mixture.tasks] == [1.0] * 4


def test_only_drawn_splits_have_a_fraction_and_its_seed():
  experiment = made(fraction=0.5, seed=4, labels='teacher')
  names = registration.eval_tasks(experiment)
  assert names == [
    'cqa_sample_label_validation_f0.5_s4',
    'cqa_sample_rationale_palm_validation_f0.5_s4',
    'cqa_sample_label_test',
    'cqa_sample_rationale_palm_test',
  ]
  draws = [seqio.TaskRegistry.get(name).source.draw for name in names]
  assert draws == [
    sources.Draw(0.5, 4), sources.Draw(0.5, 4, ('rationale',)),
    sources.Draw(), sources.Draw(needs=('rationale',)),
  ]  # fmt: skip
  assert registration.eval_tasks(experiment, rationales=False) == names[::2]
  shuffled = made(
    shuffle_rationales=True, seed=4, which_rationales='correct_only'
  )
  (label, _), (rationale, _) = registration.train_tasks(shuffled)
  assert seqio.TaskRegistry.get(label).source.draw == sources.Draw()
  assert seqio.TaskRegistry.get(rationale).source.draw == sources.Draw(
    1.0, 4, ('rationale',), True, True
  )
  ((teacher, _),) = registration.train_tasks(
    made(method='finetune', labels='teacher')
  )
  draw = sources.Draw(needs=('teacher_label',))
  assert seqio.TaskRegistry.get(teacher).source.draw == draw


def test_an_own_row_has_one_of_its_rationales_drawn_to_train_alone(own):
  experiment = made('custom', data=own, teacher='teacher', keep_blank=True)
  trained = [name for name, _ in registration.train_tasks(experiment)]
  evaluated = registration.eval_tasks(experiment)
  for name, draws in (
    (trained[0], False), (trained[1], True),
    *((name, False) for name in evaluated),
  ):  # fmt: skip
    steps = seqio.TaskRegistry.get(name).preprocessors
    assert (preprocessors.draw_rationale in steps) == draws, name
    assert (preprocessors.first_rationale in steps) != draws, name
    # What a teacher left out is spelled in published rows alone.
    assert preprocessors.encode_blanks not in steps


def test_blanks_are_spelled_where_they_are_trained_on():
  for options, spelled in (
    ({}, True), ({'method': 'finetune', 'labels': 'teacher'}, True),
    ({'paired': True}, True), ({'method': 'single_task'}, False),
  ):  # fmt: skip
    for keep in (True, False):
      experiment = made('esnli', keep_blank=keep, data='release', **options)
      *_, (name, _) = registration.train_tasks(experiment)
      steps = seqio.TaskRegistry.get(name).preprocessors
      assert (preprocessors.encode_blanks in steps) == (spelled and keep)
      pair = options.get('paired', False)
      assert (preprocessors.drop_blank_pair in steps) == (pair and not keep)
  # The published code has none for ANLI.
  *_, (name, _) = registration.train_tasks(
    made('anli1', keep_blank=True, data='release')
  )
  steps = seqio.TaskRegistry.get(name).preprocessors
  assert preprocessors.encode_blanks not in steps


def test_features_are_tokens_that_end_and_the_task():
  (name, _), *_ = registration.train_tasks(made())
  features = seqio.TaskRegistry.get(name).output_features
  assert set(features) == {'inputs', 'targets', 'task_id'}
  for side in ('inputs', 'targets'):
    assert features[side].add_eos and features[side].dtype == tf.int32
  task = features['task_id']
  assert (task.add_eos, task.rank, task.dtype) == (False, 0, tf.int32)
  for data_set in ('esnli', 'anli1', 'custom'):
    assert registration.tokenizer(data_set) is preprocessors.tokenize_parts
  for data_set in ('cqa', 'svamp'):
    assert registration.tokenizer(data_set) is seqio.preprocessors.tokenize
