"""`dss data inspect` shows what a vocabulary does not know."""

import doctest
import json

import pytest

from dss_jax import cli, mixtures
from dss_jax.commands import unknown_text
from dss_jax.data import own_rows, records
from tests import small_vocabularies


def _record(**columns):
  fields = {'input': 'a', 'label': 'pond', 'rationale': 'it', **columns}
  return records.Record(index=0, id='1', **fields)


def _experiment(data_set='cqa', **options):
  return mixtures.Experiment(
    data_set, vocabulary=small_vocabularies.made(**options)
  )


def test_the_example_of_the_docstring_holds():
  result = doctest.testmod(unknown_text)
  assert result.attempted and not result.failed


def test_rows_and_characters_are_counted_by_column():
  rows = [
    _record(input='a { b {{', rationale='x\ny'),
    _record(input='a {<', label='^'),
    _record(rationale=own_rows.SEPARATOR.join(['one', 'two'])),
  ]
  found = unknown_text.count(_experiment(), {'train': rows, 'test': []})
  characters = unknown_text.Characters
  assert found.columns['train', 'input'] == unknown_text.Unknown(
    characters(2, (('{', 2), ('<', 1))), characters()
  )
  assert found.columns['train', 'label'].unknown == characters(1, (('^', 1),))
  rationale = found.columns['train', 'rationale']
  assert rationale.dropped == characters(1, (('\n', 1),))
  assert found.columns['test', 'input'].unknown == characters()
  assert not found.confused


def test_the_end_token_between_two_texts_is_no_text():
  rows = [_record(input='A dog.</s>A cat.')]
  for data_set, count in (('esnli', 0), ('cqa', 1)):
    found = unknown_text.count(_experiment(data_set), {'train': rows})
    assert found.columns['train', 'input'].unknown.rows == count


def test_lines_name_the_most_frequent_and_move_no_cursor():
  letters = [chr(0x400 + i) for i in range(12)]
  rows = [
    _record(rationale=''.join(letters), label='\x1b[2J{'),
    _record(rationale=letters[5], label='\x1b[2J<'),
  ]
  lines = list(unknown_text.lines(
    unknown_text.count(_experiment(), {'train': rows})
  ))  # fmt: skip
  text = '\n'.join(lines)
  assert text.replace('\n', '').isprintable()
  assert 'train, rationale: 2 rows have characters that the' in text
  assert f'{letters[5]!r} 2, ' in text and ' and 2 more' in text
  assert r"The labels '\x1b[2J{' and '\x1b[2J<' are both" in text


@pytest.fixture
def rows_file(tmp_path):
  path = tmp_path / 'rows.jsonl'
  with path.open('w') as file:
    for i in range(30):
      row = {'input': f'case {i}', 'label': 'yes\x1b[2J'}
      file.write(json.dumps({**row, 'rationale': f'{{{i}}}\nso'}) + '\n')
  return str(path)


def test_inspect_shows_them(rows_file, tfds_dir, capsys):
  vocabulary = small_vocabularies.made().sentencepiece_model_file
  cli.main(['data', 'inspect', rows_file, '--vocabulary', vocabulary])
  said = capsys.readouterr().out
  assert 'train, rationale: 24 rows have characters that the vocabulary' in said
  assert '\x1b[2J' not in said and r'\x1b[2J' in said
  assert "'{' 24" in said and r"'\n' 24" in said


def test_inspect_refuses_a_vocabulary_that_training_refuses(
  rows_file, tfds_dir, capsys
):
  vocabulary = small_vocabularies.made(eos_id=-1).sentencepiece_model_file
  with pytest.raises(SystemExit) as stopped:
    cli.main(['data', 'inspect', rows_file, '--vocabulary', vocabulary])
  assert stopped.value.code == 2
  assert 'there is no end piece' in ' '.join(capsys.readouterr().err.split())
