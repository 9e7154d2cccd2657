"""Tests of what rows decide about a run."""

import pytest

from dss_jax.data import own_rows, records
from dss_jax.pipeline import experiment as experiment_lib
from dss_jax.training import from_data

_PERIODS = {
  'EVAL_PERIOD': 1000, 'SAVE_PERIOD': 500, 'STATS_PERIOD': 100,
  'WARMUP_STEPS': 0,
}  # fmt: skip
_SIZE = from_data.Size({'inputs': 120, 'targets': 80}, 16, 2000, _PERIODS)


@pytest.mark.parametrize(
  ('rows', 'steps'),
  [
    (540, 2000),  # 60 passes are 2025 steps, which is more than the size has.
    (200, 750),
    (10, 400),  # At least a fifth of the size's own.
    (100_000, 19_000),  # At least three passes.
  ],
)
def test_steps_are_passes_within_bounds(rows, steps):
  found = from_data.steps_of(rows, _SIZE)
  assert found.values['TRAIN_STEPS'] == steps
  assert f'{rows:,} rows, 16 a step' in found.reason


def test_periods_keep_their_part():
  assert from_data.periods_of(40, _SIZE) == {
    'EVAL_PERIOD': 20, 'SAVE_PERIOD': 10, 'STATS_PERIOD': 2, 'WARMUP_STEPS': 0,
  }  # fmt: skip
  # None of them is never, which 0 would mean.
  assert from_data.periods_of(3, _SIZE)['STATS_PERIOD'] == 1


def _record(number, text, label='yes', rationale='so'):
  return records.Record(number, str(number), text, label, rationale, '')


def _experiment(rows, **options):
  return experiment_lib.Experiment(
    'custom', own_rows.OwnData('rows.jsonl', **options), teacher='teacher'
  )


def test_lengths_keep_every_token(rows):
  letters = [_record(n, 'x' * (130 + n)) for n in range(9)]
  found = from_data.lengths_of(_experiment(rows), letters, _SIZE)
  lengths = found.values['TASK_FEATURE_LENGTHS']
  # The prefix and the end token are more.
  assert lengths['inputs'] >= 2 * (138 + 1) and not lengths['inputs'] % 8
  assert found.reason.startswith('No token is cut; packed rows of this shape')


def test_an_outlier_is_cut_and_said(rows):
  letters = [_record(n, 'x' * 90) for n in range(99)]
  letters.append(_record(99, 'x' * 3000))
  found = from_data.lengths_of(_experiment(rows), letters, _SIZE)
  assert found.values['TASK_FEATURE_LENGTHS']['inputs'] == 1024
  assert 'is cut; packed rows' in found.reason


def test_few_labels_are_classes(rows):
  del rows

  def classes(labels, **options):
    found = [_record(n, f'{n}', label) for n, label in enumerate(labels)]
    return from_data.classes_of(_experiment(None, **options), {'train': found})

  assert classes(['b', 'a'] * 10) == ['a', 'b']
  assert classes(['b', 'a'] * 9) is None  # Nine rows of each.
  assert classes(['a'] * 20) is None
  assert classes(['b', 'a'] * 10, classes=['a', 'b', 'c']) is None
  assert classes(['True', 'true'] * 10) is None  # One class, in two forms.
  assert classes([str(n) for n in range(1000)]) is None
