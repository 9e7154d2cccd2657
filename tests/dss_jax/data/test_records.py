"""Tests of reading releases."""

import json
import pathlib
import tracemalloc
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dss_jax import errors
from dss_jax.data import archive, records, tfds_builders
from tests.dss_jax import conftest


def zipped(folder, *, top=''):
  """Writes a folder's files into a zip, below `top`."""
  path = folder.with_suffix('.zip')
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive_file:
    for file in sorted(folder.rglob('*.json')):
      archive_file.write(file, top + str(file.relative_to(folder)))
  return path


def edit(path, function):
  """Rewrites a text file."""
  path.write_text(function(path.read_text('utf-8')), encoding='utf-8')


def test_a_cqa_row_becomes_this_record(write_release):
  release = records.read('cqa', str(write_release()))
  assert list(release.splits) == ['train', 'test']
  places = [*release.places['train']]
  assert len(places) == 24
  assert places[2].endswith('/cqa/cqa_train.json, line 3')
  assert release.splits['train'][2] == records.Record(
    index=2,
    id='row2',
    input='Where is box number 2?\nAnswer Choices:\n(a) pond\n(b) barn\n'
    '(c) attic\n(d) shed\n(e) cave',
    label='attic',
    rationale='Box 2 is in the attic.',
    teacher_label='attic',
  )


def test_completions_go_with_the_rows_of_their_place(write_release):
  release = records.read('cqa', str(write_release(train=23, part=10)))
  for row in release.splits['train']:
    if row.rationale:
      assert row.rationale.startswith(f'Box {row.index} ')


def test_the_report_counts_what_was_written(write_release):
  reports = records.read('cqa', str(write_release())).reports
  # Of 24: cut short are 5, 11, 17, 23, wrong 3, 7, 15, 19.
  assert reports['train'] == records.Report(
    rows=24,
    duplicates=0,
    empty_rationales=4,
    empty_labels=4,
    outside_labels=0,
    teacher_correct=16,
  )
  assert reports['train'].teacher_accuracy == 16 / 24


def test_equations_are_right_by_value(write_release):
  release = records.read('svamp', str(write_release('svamp')))
  row = release.splits['train'][1]
  assert (row.label, row.teacher_label) == ('( 1.0 + 2.0 )', '(1 + 2)')
  assert row.id == 'train-1'
  assert release.reports['train'].teacher_correct == 16


def test_labels_that_are_no_choice_and_repeated_inputs_are_counted(
  write_release,
):
  folder = write_release(train=10)
  edit(
    folder / 'cqa/llm/train_CoT_0.json',
    lambda text: text.replace('(b) barn.', '(b) the barn.'),
  )
  path = folder / 'cqa/cqa_train.json'
  edit(path, lambda text: text.replace('number 4', 'number 3'))
  report = records.read('cqa', str(folder)).reports['train']
  assert report.outside_labels == 2  # Rows 1 and 6.
  assert report.duplicates == 1


def test_inputs_of_inference_sets_join_premise_and_hypothesis(tmp_path):
  row = {'uid': 'u', 'premise': 'A dog.', 'hypothesis': 'A pet.', 'label': 0}
  for split in ('valid', 'test'):
    conftest.write_json_lines(tmp_path / f'anli1/anli1_{split}.json', [row])
    conftest.write_list(
      tmp_path / f'anli1/llm/{split}_CoT_0.json',
      ['Dogs are pets. So the answer is entailment.'],
    )
  release = records.read('anli1', str(tmp_path), splits=('validation', 'test'))
  assert release.splits['validation'][0] == records.Record(
    0, 'u', 'A dog.</s>A pet.', 'entailment', 'Dogs are pets.', 'entailment'
  )
  assert release.reports['validation'].teacher_accuracy == 1.0
  with pytest.raises(
    errors.DataError,
    match=r'anli1_train\.json: expected the train rows there, found no such'
    r" file\. Add it from the published archive, or give DATA = 'release'",
  ):
    records.read('anli1', str(tmp_path))


def test_other_teachers_are_read_from_their_places(write_release):
  folder = write_release(train=3, test=1)
  for split, count in (('train', 3), ('test', 1)):
    conftest.write_list(
      folder / f'gpt-neox/cqa/{split}.json',
      ['Neo. So the answer is (a) pond.'] * count,
    )
    conftest.write_list(
      folder / f'cqa/mine/{split}_CoT_0.json',
      ['Mine. So the answer is (b) barn.'] * count,
    )
  for location in (folder, folder / 'cqa', zipped(folder)):
    for teacher, said in (('gpt_neox', 'Neo.'), ('mine', 'Mine.')):
      release = records.read('cqa', str(location), teacher)
      assert {row.rationale for row in release.splits['train']} == {said}
  release = records.read('cqa', str(folder), None)
  assert {row.rationale for row in release.splits['train']} == {''}


@pytest.mark.parametrize('top', ['', 'datasets/'])
def test_a_zip_reads_as_its_folder(write_release, top):
  folder = write_release()
  path = zipped(folder, top=top)
  assert records.read('cqa', str(path)) == records.read('cqa', str(folder))
  assert records.fingerprint('cqa', str(path)) == records.fingerprint(
    'cqa', str(folder)
  )


def test_a_zip_with_names_that_climb_out_writes_nothing(
  write_release, tmp_path
):
  path = zipped(write_release())
  with zipfile.ZipFile(path, 'a') as archive_file:
    archive_file.writestr('../../escaped.json', '[]')
    archive_file.writestr('/escaped.json', '[]')
    archive_file.writestr('cqa/llm/../../../train_CoT_9.json', '[]')
  before = sorted(tmp_path.rglob('*'))
  assert len(records.read('cqa', str(path)).splits['train']) == 24
  assert sorted(tmp_path.rglob('*')) == before
  assert not (tmp_path.parent / 'escaped.json').exists()
  assert not pathlib.Path('/escaped.json').exists()


def test_the_fingerprint_follows_the_content_that_is_read(write_release):
  folder = write_release()
  first = records.fingerprint('cqa', str(folder))
  assert len(first) == 10 and int(first, 16) >= 0
  rows_only = records.fingerprint('cqa', str(folder), None)
  assert first == records.fingerprint('cqa', str(folder / 'cqa'))
  (folder / 'cqa/notes.json').write_text('{}')
  assert first == records.fingerprint('cqa', str(folder))
  edit(
    folder / 'cqa/llm/train_CoT_1.json', lambda text: text.replace('is', 'was')
  )
  assert first != records.fingerprint('cqa', str(folder))
  assert rows_only == records.fingerprint('cqa', str(folder), None)


def test_separators_within_json_text_end_no_line(write_release):
  folder = write_release(train=3)
  edit(
    folder / 'cqa/cqa_train.json',
    lambda text: text.replace('box number 1', 'box\u2028number\x85 1'),
  )
  rows = records.read('cqa', str(folder)).splits['train']
  assert 'box\u2028number\x85 1' in rows[1].input


def test_windows_line_ends_and_a_byte_order_mark_are_read(write_release):
  folder = write_release(train=3)
  expected = records.read('cqa', str(folder))
  path = folder / 'cqa/cqa_train.json'
  path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes().replace(b'\n', b'\r\n'))
  assert records.read('cqa', str(folder)) == expected


def drop_line(text):
  return text.split('\n', 1)[1]


def replace_line(number, function):
  def change(text):
    lines = text.split('\n')
    lines[number - 1] = function(lines[number - 1])
    return '\n'.join(lines)

  return change


def without(column):
  def change(line):
    row = json.loads(line)
    del row[column]
    return json.dumps(row)

  return change


def with_value(column, value):
  return lambda line: json.dumps(json.loads(line) | {column: value})


@pytest.mark.parametrize(
  ('file', 'change', 'message'),
  [
    (
      'cqa_train.json',
      replace_line(17, lambda line: line[:-5]),
      r'cqa_train\.json, line 17: expected JSON, found .* Correct the line',
    ),
    (
      'cqa_train.json',
      replace_line(3, lambda line: ''),
      r'cqa_train\.json, line 3: expected JSON',
    ),
    (
      'cqa_train.json',
      replace_line(4, lambda line: '[1]'),
      r'line 4: expected a JSON object, found \[1\]\. Write one object'
      r' per line',
    ),
    (
      'cqa_test.json',
      replace_line(2, without('choices')),
      r"cqa_test\.json, line 2: expected the column 'choices', found only"
      r' answer, id, question\. Add the column',
    ),
    (
      'cqa_test.json',
      replace_line(2, with_value('question', 7)),
      r"line 2: expected 'question' to be a str, found 7",
    ),
    (
      'cqa_test.json',
      replace_line(2, with_value('choices', ['a', 1])),
      r"line 2: expected 'choices' to be 1 to 26 texts, found \[\"a\", 1\]",
    ),
    (
      'cqa_train.json',
      replace_line(5, with_value('answer', 'kave')),
      r"line 5: expected 'answer' to be one of the choices .* found 'kave'\."
      r" Did you mean 'cave'\?",
    ),
    (
      'cqa_train.json',
      replace_line(5, with_value('question', '\ud800')),
      r'line 5: expected JSON with text in it, found .*surrogates',
    ),
    (
      'cqa_train.json',
      replace_line(6, lambda line: '[' * 100_000),
      r'line 6: expected JSON with text in it, found .*recursion',
    ),
    (
      'cqa_train.json',
      drop_line,
      r'train_CoT_0\.json to train_CoT_2\.json: expected 23 completions, one'
      r' per row of .*cqa_train\.json, found 24\. Get the files that belong',
    ),
    ('cqa_test.json', lambda text: ' \n', r'found an empty file\. Get the'),
    (
      'llm/train_CoT_1.json',
      lambda text: text[:-1],
      r'train_CoT_1\.json, line 1: expected JSON',
    ),
    (
      'llm/test_CoT_0.json',
      lambda text: json.dumps(json.loads(text)[:-1]),
      r'test_CoT_0\.json: expected 6 completions, one per row of'
      r' .*cqa_test\.json, found 5\. Get the files that belong together',
    ),
    (
      'llm/train_CoT_1.json',
      lambda text: '{}',
      r'expected a JSON list of completions, found a dict',
    ),
    (
      'llm/train_CoT_1.json',
      lambda text: json.dumps([*json.loads(text)[:3], None]),
      r'train_CoT_1\.json, entry 3: expected a text, found null',
    ),
  ],
)  # fmt: skip
def test_a_bad_file_is_named_with_the_line_and_the_fix(
  write_release, file, change, message
):
  folder = write_release()
  edit(folder / 'cqa' / file, change)
  with pytest.raises(errors.DataError, match=message):
    records.read('cqa', str(folder))


def test_bytes_that_are_no_utf8_are_named_with_their_line(write_release):
  folder = write_release()
  path = folder / 'cqa/cqa_train.json'
  path.write_bytes(path.read_bytes().replace(b'number 6', b'numb\xe9r 6'))
  with pytest.raises(
    errors.DataError, match='line 7: expected UTF-8, found the byte 0xe9'
  ):
    records.read('cqa', str(folder))


def test_a_file_that_lost_rows_shifts_no_others(write_release):
  folder = write_release(train=30, part=10)
  llm = folder / 'cqa/llm'
  lists = [
    json.loads((llm / f'train_CoT_{i}.json').read_text()) for i in (1, 2)
  ]
  conftest.write_list(llm / 'train_CoT_1.json', lists[0][:-1])
  conftest.write_list(llm / 'train_CoT_2.json', [*lists[1], 'x'])
  with pytest.raises(
    errors.DataError,
    match=r'train_CoT_1\.json: expected 10 completions as in train_CoT_0\.json'
    ', found 9',
  ):
    records.read('cqa', str(folder))


def test_a_missing_numbered_file_is_named(write_release):
  folder = write_release()
  (folder / 'cqa/llm/train_CoT_1.json').unlink()
  with pytest.raises(
    errors.DataError,
    match=r'expected train_CoT_1\.json, found train_CoT_2\.json',
  ):
    records.read('cqa', str(folder))


def test_gpt_neox_is_read_by_its_own_rules(tmp_path):
  row = {'uid': 'u', 'premise': 'A dog.', 'hypothesis': 'A pet.', 'label': 0}
  conftest.write_json_lines(tmp_path / 'anli1/anli1_test.json', [row])
  said = ['Dogs are pets. The answer is entailment.']
  conftest.write_list(tmp_path / 'gpt-neox/anli1/test.json', said)
  conftest.write_list(tmp_path / 'anli1/llm/test_CoT_0.json', said)
  for teacher, label in (('gpt_neox', 'entailment'), ('palm', '')):
    read = records.read('anli1', str(tmp_path), teacher, splits=('test',))
    assert read.splits['test'][0].teacher_label == label


@pytest.mark.parametrize(
  ('columns', 'text', 'label'),
  [
    (
      {'Body': 'Ann has 2 nuts. ', 'Question': 'How many?',
       'Formula': '2+7=9', 'Answer': '9 (nuts)'},
      'Ann has 2 nuts.\nHow many?', '2+7',
    ),
    # A formula without a value, and none: the answer's number; or no label.
    (
      {'Body': 'B', 'Question': 'Q', 'Formula': 'lcm(3, 4)=12', 'Answer': '12'},
      'B\nQ', '12',
    ),
    ({'Body': 'B', 'Question': 'Q', 'Answer': '12 (cups)'}, 'B\nQ', '12'),
    ({'Body': 'B', 'Question': 'Q', 'Answer': 'Ann'}, 'B\nQ', ''),
    # The columns of the packaged sample.
    ({'input': 'How many?', 'label': '2+7=9'}, 'How many?', '2+7'),
    ({'input': 'How many?'}, 'How many?', ''),
  ],
)  # fmt: skip
def test_an_asdiv_row_is_read_in_either_columns(tmp_path, columns, text, label):
  svamp = {'input': 'What?', 'label': '( 1.0 + 1.0 )'}
  conftest.write_json_lines(tmp_path / 'svamp/svamp_train.json', [svamp])
  conftest.write_json_lines(tmp_path / 'asdiv/asdiv_train.json', [columns])
  read = records.read('asdiv', str(tmp_path), None, splits=('train',))
  row = read.splits['train'][1]
  assert (row.input, row.label) == (text, label)


def test_a_missing_teacher_or_split_is_named(write_release):
  folder = write_release()
  with pytest.raises(errors.DataError, match="teacher 'mine' there, found no"):
    records.read('cqa', str(folder), 'mine')
  (folder / 'cqa/cqa_test.json').unlink()
  for function in (records.read, records.fingerprint):
    with pytest.raises(errors.DataError, match='expected the test rows there'):
      function('cqa', str(folder))


def test_a_place_without_the_files_is_named(write_release, tmp_path):
  folder = write_release()
  with pytest.raises(
    errors.DataError,
    match=r"found nothing there\. Did you mean 'release'\?",
  ):
    records.read('cqa', str(tmp_path / 'releese'))
  with pytest.raises(
    errors.DataError, match=r"expected the data set 'svamp' .* found cqa"
  ):
    records.read('svamp', str(folder))
  note = tmp_path / 'note.zip'
  note.write_text('no zip')
  with pytest.raises(errors.DataError, match='found a file that is neither'):
    records.read('cqa', str(note))
  with pytest.raises(errors.DataError, match=r"'cqaa'.* Did you mean 'cqa'\?"):
    records.read('cqaa', str(folder))


def test_a_damaged_zip_is_named_with_the_member(write_release):
  path = zipped(write_release())
  data = path.read_bytes()
  with zipfile.ZipFile(path) as archive_file:
    info = archive_file.getinfo('cqa/cqa_train.json')
  begin = info.header_offset + 60
  path.write_bytes(data[:begin] + b'\x00' * 40 + data[begin + 40 :])
  with pytest.raises(
    errors.DataError, match=r'cqa_train\.json: expected a whole, unencrypted'
  ):
    records.read('cqa', str(path))


def test_a_member_that_unpacks_to_too_much_is_refused(
  write_release, monkeypatch
):
  path = zipped(write_release())
  monkeypatch.setattr(archive, 'MAX_MEMBER_BYTES', 100)
  with pytest.raises(
    errors.DataError, match=r'cqa_train\.json: .* at most 100 bytes'
  ):
    records.read('cqa', str(path))


@pytest.mark.parametrize(
  ('method', 'message'),
  [
    (zipfile.ZIP_DEFLATED, r'at most \d+ bytes, \d+ packed, found 33554432'),
    (zipfile.ZIP_BZIP2, 'expected a stored or deflated member, found'),
  ],
)  # fmt: skip
def test_a_zip_bomb_takes_no_memory(tmp_path, method, message):
  path = tmp_path / 'bomb.zip'
  rows = b' ' * 2**25 if method == zipfile.ZIP_DEFLATED else b'{}'
  with zipfile.ZipFile(path, 'w', method) as archive_file:
    archive_file.writestr('cqa/cqa_train.json', rows)
    archive_file.writestr('cqa/cqa_test.json', '{}')
  del rows
  tracemalloc.start()
  try:
    with pytest.raises(errors.DataError, match=message):
      records.read('cqa', str(path), None)
    _, peak = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert peak < 2**21


def test_a_member_unpacks_to_no_more_than_it_claims(write_release):
  path = zipped(write_release())
  data = path.read_bytes()
  with zipfile.ZipFile(path) as archive_file:
    info = archive_file.getinfo('cqa/cqa_train.json')
  # The size stands twice, in the member's header and in the directory.
  true, claimed = (n.to_bytes(4, 'little') for n in (info.file_size, 100))
  assert data.count(true) == 2
  path.write_bytes(data.replace(true, claimed))
  with pytest.raises(errors.DataError, match='expected a whole, unencrypted'):
    records.read('cqa', str(path))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60), st.integers(0, 400))
def test_any_change_of_bytes_reads_or_is_a_data_error(
  write_release, junk, place
):
  folder = write_release(train=4, test=2)
  path = folder / 'cqa/cqa_train.json'
  data = path.read_bytes()
  path.write_bytes(data[:place] + junk + data[place + len(junk) :])
  try:
    release = records.read('cqa', str(folder))
  except errors.DataError as error:
    assert 'cqa_train.json' in str(error)
  else:
    assert len(release.splits['train']) == 4


def test_the_packaged_sample_is_a_release():
  release = records.read('cqa', tfds_builders.sample_location())
  train, test = release.reports['train'], release.reports['test']
  assert train.rows == 1000
  assert test.rows == 400
  for report in (train, test):
    assert report.duplicates == 0
    assert 0.65 < report.teacher_accuracy < 0.85
    assert 0 < report.empty_labels < 0.1 * report.rows
  questions = [{row.input for row in rows} for rows in release.splits.values()]
  assert not questions[0] & questions[1]
