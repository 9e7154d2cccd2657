"""Tests of a teacher's files: found by name, read whole, paired with rows."""

import json

import pytest
from etils import epath

from dss_jax import errors
from dss_jax.data import archive, completions, teacher_outputs
from tests.dss_jax import conftest as rows_lib

_PLACE = 'cqa_train.json'


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """A data set's folder, and an empty one for extractions."""
  monkeypatch.setenv('DSS_TEACHERS', str(tmp_path / 'teachers'))
  return tmp_path / 'cqa'


def _files(folder):
  return archive.Files(epath.Path(folder.parent), f'{folder.name}/')


def _write(folder, inner, lengths):
  """Writes numbered files of so many completions each; returns all texts."""
  texts = [f'text {n}' for n in range(sum(lengths))]
  for number, length in enumerate(lengths):
    begin = sum(lengths[:number])
    path = folder / inner / f'train_CoT_{number}.json'
    rows_lib.write_list(path, texts[begin : begin + length])
  return texts


def _read(folder, inner, rows):
  teacher = 'palm' if inner == 'llm' else inner
  files, names = teacher_outputs.find(_files(folder), 'cqa', teacher, 'train')
  return teacher_outputs.read(files, names, rows, _PLACE)


def test_extractions_are_in_the_folder_that_the_environment_names(
  tmp_path, monkeypatch
):
  monkeypatch.setenv('DSS_TEACHERS', str(tmp_path))
  assert str(teacher_outputs.folder('mine', 'cqa')) == f'{tmp_path}/mine/cqa'
  monkeypatch.delenv('DSS_TEACHERS')
  found = teacher_outputs.folder('mine', 'cqa')
  assert str(found) == 'runs/teachers/mine/cqa'


# Names before and after those with places of their own.
@pytest.mark.parametrize('inner', ['anna', 'mine', 'zoe', 'llm'])
@pytest.mark.parametrize('lengths', [(3,), (2, 1), (2,) * 11 + (1,)])
def test_all_completions_are_read_in_the_order_of_their_files(
  folder, inner, lengths
):
  texts = _write(folder, inner, lengths)
  assert _read(folder, inner, len(texts)) == texts


@pytest.mark.parametrize(
  ('lengths', 'named', 'first', 'found'),
  [
    ((10, 9, 5), 1, 10, 9),
    ((9, 10, 5), 1, 9, 10),
    ((4, 5), 1, 4, 5),
    # The last by its number is not the last of the alphabet.
    ((2, 2, 1) + (2,) * 9, 2, 2, 1),
  ],
)
def test_a_file_that_lost_rows_shifts_no_others(
  folder, lengths, named, first, found
):
  _write(folder, 'llm', lengths)
  message = (
    rf'llm/train_CoT_{named}\.json: expected {first} completions as in'
    rf' train_CoT_0\.json, found {found}\.'
  )
  with pytest.raises(errors.DataError, match=message):
    _read(folder, 'llm', sum(lengths))


@pytest.mark.parametrize('rows', [4, 6])
@pytest.mark.parametrize(
  ('lengths', 'place'),
  [((5,), r'0\.json'), ((3, 2), r'0\.json to train_CoT_1\.json')],
)
def test_files_of_other_rows_are_named_from_first_to_last(
  folder, rows, lengths, place
):
  _write(folder, 'llm', lengths)
  message = rf'llm/train_CoT_{place}: expected {rows} completions, one per row'
  with pytest.raises(errors.DataError, match=f'{message} .*, found 5'):
    _read(folder, 'llm', rows)


def test_a_reading_names_its_completion_as_files_on_disk_do():
  """What earlier versions have written must stay readable."""
  assert teacher_outputs.digest('a') == 'ca978112ca1bbdca'
  parsed = completions.Parsed('why', 'b')
  assert teacher_outputs.reading('a', parsed) == {
    'rationale': 'why',
    'label': 'b',
    'completion': 'ca978112ca1bbdca',
  }


def _parsed(folder, texts):
  files, names = teacher_outputs.find(_files(folder), 'cqa', 'mine', 'train')
  assert teacher_outputs.readings(files, names) == ['mine/train_read_0.json']
  return teacher_outputs.parse(files, names, texts, 'cqa', 'mine')


def test_a_reading_is_used_for_the_completion_that_it_was_made_from(folder):
  said = ['A. So the answer is (a) x.', 'B. So the answer is (b) y.']
  rows_lib.write_list(folder / 'mine/train_CoT_0.json', said)
  read = completions.Parsed('why', 'z')
  rows_lib.write_list(
    folder / 'mine/train_read_0.json', [teacher_outputs.reading(said[0], read)]
  )
  found = _parsed(folder, said)
  assert found == [read, completions.Parsed('B.', 'y')]


@pytest.mark.parametrize(
  'reading', [{'rationale': 1}, {'rationale': '', 'label': ''}, [], 'text']
)
def test_what_is_no_reading_is_named(folder, reading):
  rows_lib.write_list(folder / 'mine/train_CoT_0.json', ['a'])
  read = completions.Parsed('why', 'z')
  good = teacher_outputs.reading('a', read)
  rows_lib.write_list(folder / 'mine/train_read_0.json', [good, reading])
  message = r'train_read_0\.json, entry 1: expected rationale, label and'
  with pytest.raises(errors.DataError, match=message):
    _parsed(folder, ['a'])
  (folder / 'mine/train_read_0.json').write_text(json.dumps(good))
  assert _parsed(folder, ['a']) == [read]


@pytest.mark.parametrize('other', ['a', 'c', None])
def test_an_extraction_of_other_rows_is_refused(tmp_path, other):
  rows, extracted = tmp_path / 'rows/cqa', tmp_path / 'mine/cqa'
  for place, text in ((rows, 'b'), (extracted, other)):
    place.mkdir(parents=True)
    if text:
      (place / _PLACE).write_text(text)
  places = (_files(extracted), _files(rows))
  with pytest.raises(errors.DataError, match=r"TEACHER is 'mine', but .* hold"):
    teacher_outputs.check_rows(*places, _PLACE, 'mine')
  (extracted / _PLACE).write_text('b')
  teacher_outputs.check_rows(*places, _PLACE, 'mine')
