"""Tests of rows to ask about: read one by one, copied, and told apart."""

import json
import os

import pytest

from dss_jax import errors
from dss_jax.extract import rows
from tests.dss_jax import conftest as rows_lib


def _published(tmp_path, text, data_set='cqa'):
  path = tmp_path / f'{data_set}_train.json'
  path.write_text(text)
  return rows.Rows(data_set, {'train': path})


def _lines(count=3, maker=rows_lib.cqa_row):
  return [json.dumps(maker(number)) for number in range(count)]


def _own(tmp_path, by_value=False):
  path = tmp_path / 'own.jsonl'
  rows_lib.write_json_lines(path, [{'input': 'a', 'label': '2 + 2'}])
  return rows.own(str(path), {}, by_value)


@pytest.mark.parametrize('end', ['', '\n', '\n\n \n'])
def test_a_row_of_each_line_is_read(tmp_path, end):
  """A byte order mark begins the first."""
  found = _published(tmp_path, '\ufeff' + '\n'.join(_lines()) + end)
  read = list(found.read('train'))
  assert [(r.split, r.index, r.id) for r in read] == [
    ('train', n, f'row{n}') for n in range(3)
  ]
  assert read[2].label == 'attic'
  assert read[2].possible('pond') and not read[2].possible('the pond')


def test_a_row_without_a_name_is_called_by_its_number(tmp_path):
  lines = _lines(maker=rows_lib.svamp_row)
  found = _published(tmp_path, '\n'.join(lines), 'svamp')
  assert [r.id for r in found.read('train')] == [f'train-{n}' for n in range(3)]


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda lines: [], 'expected rows, found an empty file'),
    (lambda lines: [lines[0], '', lines[1]], 'line 3: expected no row after a'),
    (lambda lines: ['', lines[0]], 'line 2: expected no row after a blank'),
    (lambda lines: [lines[0], '{"id": "x"}'], "line 2: expected the column 'q"),
    (lambda lines: [lines[0], '{'], 'line 2: expected JSON'),
  ],
)
def test_a_line_that_is_no_row_is_named(tmp_path, change, message):
  found = _published(tmp_path, '\n'.join(change(_lines())))
  with pytest.raises(errors.DataError, match=rf'cqa_train\.json.*{message}'):
    list(found.read('train'))


def test_labels_of_equations_are_told_apart_by_their_value(tmp_path):
  found = _own(tmp_path, by_value=True)
  assert found.correct('(2 + 2)', '4.0') and not found.correct('5', '4')
  assert found.key('(2 + 2)') == found.key('4') != found.key('5')
  assert found.key('four') == 'four'
  [row] = found.read('train')
  assert row.possible('3 * 3') and not row.possible('nine')


def test_other_labels_are_told_apart_by_their_words(tmp_path):
  assert not rows.Rows(rows.CUSTOM, {}).by_value
  found = _own(tmp_path)
  assert found.correct('b', 'b')
  assert not found.correct('a', 'b') and not found.correct('c', 'b')
  assert found.key('4.0') == '4.0' and not found.correct('4.0', '4')
  [row] = found.read('train')
  assert row.possible('nine')


def test_mistakes_about_own_rows_are_told_at_once(tmp_path):
  _own(tmp_path)
  message = r'--column lable=…: expected one of input, label, id\..*label'
  with pytest.raises(errors.DataError, match=message):
    rows.own(str(tmp_path / 'own.jsonl'), {'lable': 'x'}, False)
  with pytest.raises(errors.DataError, match=r'owm\.jsonl'):
    rows.own(str(tmp_path / 'owm.jsonl'), {}, False)


@pytest.mark.parametrize('data_set', ['cqa', 'svamp'])
def test_the_files_of_a_data_set_are_copied(tmp_path, write_release, data_set):
  release, folder = write_release(data_set), tmp_path / 'copy'
  folder.mkdir()
  found = rows.fetch(data_set, str(release), folder)
  names = [f'{data_set}_{split}.json' for split in ('train', 'test')]
  assert [path.name for path in found.paths.values()] == names
  assert list(found.paths) == ['train', 'test']
  for name in names:
    original = release / data_set / name
    assert (folder / name).read_bytes() == original.read_bytes()
  assert found.published and found.by_value == (data_set == 'svamp')


def test_an_unknown_data_set_is_named(tmp_path, write_release):
  with pytest.raises(errors.DataError, match="Did you mean 'cqa'"):
    rows.fetch('cqaa', str(write_release()), tmp_path)


def test_rows_are_kept_with_what_was_asked_about_them(tmp_path):
  folder = tmp_path / 'runs/mine/cqa'
  fetched = _published(tmp_path, '\n'.join(_lines()))
  kept = rows.keep(fetched, folder, 'mine')
  assert kept.paths == {'train': folder / 'cqa_train.json'}
  assert [row.index for row in kept.read('train')] == [0, 1, 2]
  assert rows.keep(fetched, folder, 'mine') == kept
  # Other rows of the same size, and written at the same time.
  [path] = fetched.paths.values()
  path.write_text(path.read_text().replace('number 1', 'number 7'))
  stat = (folder / path.name).stat()
  os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
  with pytest.raises(errors.DataError, match="'mine' was asked about them"):
    rows.keep(fetched, folder, 'mine')
  own = _own(tmp_path)
  assert rows.keep(own, folder, 'mine') is own
