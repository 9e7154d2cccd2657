"""Tests of a record's columns, of reports on few rows, and of other names."""

import pytest

from dss_jax import errors
from dss_jax.data import records


def _record(number, **changes):
  return records.Record(number, f'{number}', 'a', 'b', 'c', 'd', **changes)


@pytest.mark.parametrize('count', [0, 1, 2, 3])
def test_a_record_has_a_column_for_each_kind(count):
  record = _record(7, more=('e', 'f', 'g')[:count])
  texts = {'rationale2': 'e', 'rationale3': 'f', 'rationale4': 'g'}
  assert record.columns() == {
    'id': '7', 'input': 'a', 'label': 'b', 'rationale': 'c',
    'teacher_label': 'd', **dict([*texts.items()][:count]),
  }  # fmt: skip


def test_a_record_is_written_as_before_there_were_kinds():
  """Names are made of it: with the kinds, they would all be others."""
  assert repr(_record(7, more=('e',))) == repr(_record(7)) == (
    "Record(index=7, id='7', input='a', label='b', rationale='c',"
    " teacher_label='d')"
  )  # fmt: skip
  assert _record(7, more=('e',)) != _record(7)


def test_a_report_counts_each_kind():
  rows = (_record(0, more=('e', '')), _record(1, more=('', '')))
  report = records.report_on(rows, by_value=False)
  assert report == records.Report(
    rows=2,
    duplicates=1,
    empty_rationales=0,
    empty_labels=0,
    outside_labels=0,
    teacher_correct=0,
    empty_more=(1, 2),
  )
  assert report.without_rationale == (0, 1, 2)
  assert report.teacher_accuracy == 0.0


def test_the_teacher_of_no_rows_is_never_right():
  report = records.report_on((), by_value=True)
  assert report == records.Report(0, 0, 0, 0, 0, 0)
  assert report.teacher_accuracy == 0.0


def test_other_data_sets_and_splits_are_named(write_release):
  folder = str(write_release())
  for function in (records.read, records.state, records.fingerprint):
    with pytest.raises(errors.DataError, match="There is no data set 'cqaa'"):
      function('cqaa', folder)
  with pytest.raises(
    errors.DataError,
    match=r'cqa_valid\.json: expected the validation rows there, found no such',
  ):
    records.read('cqa', folder, splits=('train', 'validation'))
  assert [*records.read('cqa', folder, splits=('test',)).splits] == ['test']
