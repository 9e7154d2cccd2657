"""Tests of text, JSON and YAML: lines of faults, and bounds."""

import pytest

from dss_jax import errors
from dss_jax.data import text_files


@pytest.mark.parametrize(
  ('data', 'first', 'line'),
  [
    (b'\xff', (), 1), (b'\n\xff\n', (), 2), (b'a\n\xff', (3,), 4),
    (b'a\nb\nc\xff\n', (8,), 10),
  ],
)  # fmt: skip
def test_a_byte_that_is_no_utf_8_is_named_with_its_line(data, first, line):
  with pytest.raises(
    errors.DataError,
    match=rf'a\.txt, line {line}: expected UTF-8, found the byt',
  ):
    text_files.decode(data, 'a.txt', *first)
  assert text_files.decode(b'\xef\xbb\xbf\xc3\xa9', 'a.txt') == 'é'


@pytest.mark.parametrize(
  ('text', 'first', 'place'),
  [
    ('{"a": 1', None, 'a.json, line 1: expected JSON, found expecting'),
    ('{\n"a": 1\n"b"}', None, 'a.json, line 3: expected JSON, found expecting'),
    ('{"a" 1}', 6, 'a.json, line 6: expected JSON, found expecting'),
    ('{"a" 1}', 7, 'a.json, line 7: expected JSON, found expecting'),
    ('["\\uD800"]', None, 'a.json: expected JSON with text in it, found'),
    ('["\\ud800"]', 2, 'a.json, line 2: expected JSON with text in it, found'),
    ('1' * 5000, None, 'a.json: expected JSON with text in it, found'),
    ('[' * 100_000, 2, 'a.json, line 2: expected JSON with text in it, found'),
  ],
)
def test_json_that_is_none_is_named_with_its_line(text, first, place):
  with pytest.raises(errors.DataError, match=place):
    text_files.parse_json(text, 'a.json', first)


def test_json_may_have_whole_pairs_of_escapes():
  pair = '["\\ud83d\\ude00", "\\uD83D\\uDE00"]'
  assert text_files.parse_json(pair, 'a.json') == ['\U0001f600'] * 2


def test_a_name_that_stands_twice_is_that_which_is_named():
  with pytest.raises(
    errors.DataError, match=r"line 4: .* once, found 'b' twic"
  ):
    text_files.json_object(b'{"a": 1, "b": 2, "b": 3, "c": 4}', 'a.json', 4)
  nested = '{"a": {"b": 1, "b": 2}}'
  assert text_files.json_object(nested, 'a.json', 1) == {'a': {'b': 2}}


@pytest.fixture
def read(tmp_path):
  """Returns a function that writes YAML and reads it."""

  def read_text(text, *options):
    path = tmp_path / 'a.yaml'
    path.write_text(text)
    return text_files.read_yaml(str(path), 'a study', *options)

  return read_text


def test_yaml_has_values_unless_texts_are_asked_for(read):
  assert read('a: yes\nb: 1.0') == {'a': True, 'b': 1.0}
  assert read('a: yes\nb: 1.0', True) == {'a': 'yes', 'b': '1.0'}


def test_yaml_may_be_as_long_as_the_bound(read, monkeypatch):
  with pytest.raises(
    errors.DataError, match='expected a study of at most 256 KiB, found a longe'
  ):
    read('#' * (2**18 + 1))
  monkeypatch.setattr(text_files, 'MAX_YAML', 100)
  assert read('a'.ljust(100)) == 'a'
  with pytest.raises(errors.DataError, match=r'found a longer one. Correct'):
    read('a'.ljust(101))


def test_numbers_in_yaml_have_forty_digits_at_most(read):
  """A million of them take minutes."""
  assert read('1' * 40) == int('1' * 40)
  assert read(f'1.{"0" * 38}') == 1.0
  assert read('a' * 41) == 'a' * 41
  assert read(f'"{"1" * 41}"') == '1' * 41
  for number in ('1' * 41, f'1.{"0" * 39}'):
    with pytest.raises(errors.DataError, match='a number of too many digits'):
      read(number)


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('[' * 1500, 'expected YAML or JSON, found: '),
    ('a: 2020-13-45', 'expected YAML or JSON, found: month must be'),
    ('a: [', 'expected YAML or JSON, found: '),
    (
      'a: &b c\nd: *b',
      r'a\.yaml, line 2: expected no aliases in a study, found',
    ),
    ('a: \xff', None),
  ],
)
def test_yaml_that_is_none_is_named(read, text, message):
  if message is None:
    assert read(text) == {'a': '\xff'}
    return
  with pytest.raises(errors.DataError, match=message):
    read(text)


def test_yaml_that_is_not_there_is_named(tmp_path):
  with pytest.raises(errors.DataError, match='a study, which can be read'):
    text_files.read_yaml(str(tmp_path / 'gone.yaml'), 'a study')
