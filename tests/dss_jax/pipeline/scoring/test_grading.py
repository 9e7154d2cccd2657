"""Tests of what answers are compared with, split by split."""

import json
import pathlib

import pytest
import seqio

from dss_jax import errors, mixtures
from dss_jax.data import own_rows
from dss_jax.pipeline.scoring import grading


@pytest.fixture
def rows(tmp_path):
  """Returns a file of rows that a teacher has labeled, none of them gold."""
  path = tmp_path / 'rows.jsonl'
  made = (
    {
      'input': f'Is {n} even?',
      'rationale': f'{n} ends in {n % 10}.',
      'teacher_label': 'no' if n % 2 else 'yes',
    }
    for n in range(40)
  )
  path.write_text(''.join(f'{json.dumps(row)}\n' for row in made))
  return str(path)


@pytest.fixture
def gold(tmp_path):
  """Returns a file of gold labels, without rationales."""
  path = tmp_path / 'gold.csv'
  path.write_text('input,label\nIs 98 even?,yes\nIs 99 even?,no\n')
  return str(path)


def tasks_of(method, data):
  experiment = mixtures.Experiment(
    'custom', data, method, labels='teacher', teacher='mine'
  )
  name = mixtures.eval_mixture(experiment)
  tasks = seqio.get_mixture_or_task(name).tasks
  return experiment, {
    task.name.partition('_')[2].partition('_')[2].partition('_')[2]: task
    for task in tasks
  }


@pytest.mark.parametrize(
  ('method', 'kind', 'explained'),
  [
    ('dss', 'label_teacher_mine', ['rationale_mine_validation']),
    ('finetune', 'finetune_teacher_mine', []),
    ('single_task', 'single_teacher_mine', []),
  ],
)
def test_where_there_is_no_gold_the_teacher_is_agreed_with(
  rows, gold, method, kind, explained, tfds_dir
):
  own = own_rows.OwnData(rows, test=gold)
  experiment, tasks = tasks_of(method, own)
  assert grading.columns(experiment) == {
    'validation': 'teacher_label', 'test': 'label'
  }  # fmt: skip
  of_gold = 'single_mine' if method == 'single_task' else method
  of_gold = 'label' if method == 'dss' else of_gold
  assert sorted(tasks) == sorted(
    [f'{kind}_validation', f'{of_gold}_test', *explained]
  )
  for task, score in (
    (tasks[f'{kind}_validation'], 'agreement'),
    (tasks[f'{of_gold}_test'], 'accuracy'),
  ):
    examples = list(
      task.get_dataset({'inputs': 99, 'targets': 99}, 'eval', shuffle=False)
    )
    said = task.postprocess_fn(
      'So the answer is yes' if method == 'single_task' else 'yes'
    )
    golds = [
      task.postprocess_fn(
        example['targets_pretokenized'].numpy().decode(), is_target=True
      )
      for example in examples
    ]
    assert set(golds) == {'yes', 'no'}
    found = task.metric_fns[0](golds, [said] * len(golds))
    share = 100 * golds.count('yes') / len(golds)
    assert found[score] == pytest.approx(share)
    assert found[f'{score}_low'] < share < found[f'{score}_high']
    other = {'agreement', 'accuracy'} - {score}
    assert not any(name.startswith(tuple(other)) for name in found)


def test_gold_labels_that_a_split_has_are_what_counts(rows, tmp_path):
  path = tmp_path / 'some.jsonl'
  text = pathlib.Path(rows).read_text()
  path.write_text(text.replace('{', '{"label": "yes", '))
  experiment, tasks = tasks_of('finetune', str(path))
  assert set(grading.columns(experiment).values()) == {'label'}
  assert sorted(tasks) == ['finetune_test', 'finetune_validation']


def test_published_rows_have_gold_labels_and_each_teachers_rationales():
  for labels in ('gold', 'teacher'):
    experiment = mixtures.Experiment(
      'cqa', labels=labels, teachers=('palm', 'mine')
    )
    assert grading.columns(experiment) == {
      'validation': 'label', 'test': 'label'
    }  # fmt: skip
    both = ('rationale', 'rationale2')
    assert grading.explained(experiment) == {'validation': both, 'test': both}


def test_gold_labels_that_are_asked_for_must_be_there(rows):
  experiment = mixtures.Experiment('custom', rows, 'finetune')
  with pytest.raises(errors.DataError, match="LABELS = 'teacher'"):
    mixtures.eval_mixture(experiment)


def test_rationales_of_correct_answers_need_gold_labels(rows):
  experiment = mixtures.Experiment(
    'custom', rows, labels='teacher', teacher='mine',
    which_rationales='correct_only',
  )  # fmt: skip
  with pytest.raises(
    errors.DataError, match='expected train rows with a label'
  ):
    mixtures.train_mixture(experiment)
