"""Tests of the journal: what was paid for is never lost, and never mixed."""

import dataclasses
import json
import os
import pathlib
import tempfile
import time

import hypothesis
import pytest
from hypothesis import strategies as st

from dss_jax import errors
from dss_jax.extract import journal
from t5x import errors as t5x_errors

ENTRY = journal.Entry(
  split='train',
  index=3,
  id='row3',
  sample=1,
  prompt=2**64 - 1,
  model='tiny',
  parameters={'temperature': 0.5},
  text='a\n\u2028"b"',
  finish='stop',
  usage={'prompt_tokens': 7},
  time=1.5,
)

_texts = st.text(max_size=20)
_counts = st.integers(0, 2**53)
_entries = st.builds(
  journal.Entry,
  split=_texts,
  index=_counts,
  id=_texts,
  sample=_counts,
  prompt=st.integers(0, 2**64 - 1),
  model=_texts,
  parameters=st.dictionaries(_texts, st.none() | _texts | st.booleans()),
  text=st.text(),
  finish=_texts,
  usage=st.dictionaries(_texts, _counts),
  error=_texts,
  thoughts=_texts,
  time=st.floats(0, 1e10).map(lambda seconds: round(seconds, 3)),
)
_garbage = st.binary(max_size=60) | st.recursive(
  st.none() | st.booleans() | st.floats() | st.text(max_size=5),
  lambda inner: st.lists(inner) | st.dictionaries(_texts, inner),
).map(lambda value: json.dumps(value).encode())


def _changed(**changes):
  return dataclasses.replace(ENTRY, **changes)


def _write(path, entries):
  with journal.Journal(path) as log:
    return [log.append(entry) for entry in entries]


def _prompt(split, index):
  return ENTRY.prompt


def _contents(path, model='tiny', temperature=0.5, prompt=_prompt, samples=2):
  index = journal.Index({'train': 10}, samples)
  return journal.contents(
    path, index, model, {'temperature': temperature}, prompt
  )


@hypothesis.given(_entries)
@hypothesis.settings(max_examples=100, deadline=None)
def test_an_entry_is_one_line_and_read_back(entry):
  line = entry.line()
  assert line.count(b'\n') == 1
  assert journal.parse(line) == entry


def test_what_is_no_unicode_is_replaced():
  found = journal.parse(_changed(text='a \ud800', usage={'\ud800': 1}).line())
  assert (found.text, found.usage) == ('a \ufffd', {'\ufffd': 1})


def test_a_time_is_kept_to_the_millisecond():
  entry = dataclasses.replace(ENTRY, time=1700000000.123456)
  assert journal.parse(entry.line()).time == 1700000000.123


@pytest.mark.parametrize('name', [f.name for f in dataclasses.fields(ENTRY)])
def test_a_field_of_another_type_is_no_entry(name):
  fields = json.loads(_changed(thoughts='Hm').line())
  others = (None, True, '7', 7.5, [1], {})
  for other in (o for o in others if type(o) is not type(fields[name])):
    line = json.dumps(fields | {name: other}).encode()
    assert journal.parse(line) is None, other
  del fields[name]
  missing = journal.parse(json.dumps(fields).encode())
  assert (missing is None) == (name != 'thoughts')
  assert journal.parse(json.dumps(fields | {'more': 1}).encode()) is None


def test_the_bounds_of_numbers_are_numbers():
  for prompt in (0, 2**64 - 1):
    entry = _changed(prompt=prompt, index=0, sample=0)
    assert journal.parse(entry.line()) == entry
  for prompt in (-1, 2**64, 2**65):
    assert journal.parse(_changed(prompt=prompt).line()) is None
  usage = {'a': 0, 'b': 2**53, 'c': 2**53 + 1, 'd': -1, 'e': True, 'f': 1.5}
  found = journal.parse(_changed(usage=usage | {'g': 'x'}).line())
  assert found.usage == {'a': 0, 'b': 2**53}


def test_a_completion_may_be_long_and_a_line_not_endless(tmp_path, monkeypatch):
  path = tmp_path / 'journal.jsonl'
  [offset] = _write(path, [_changed(text='long ' * 2**19)])
  assert len(journal.read(path, [offset])[0].text) == 5 * 2**19
  path.write_bytes(b'x' * 1000 + b'\n' + ENTRY.line())
  monkeypatch.setattr(journal, 'MAX_LINE', 400)
  found = list(journal.scan(path))
  assert [offset for offset, _ in found] == [0, 400, 800, 1001]
  assert [entry for _, entry in found] == [None, None, None, ENTRY]
  assert list(journal.scan(tmp_path / 'none.jsonl')) == []


@hypothesis.given(_garbage)
@hypothesis.settings(max_examples=100, deadline=None)
def test_no_line_makes_the_reader_raise(line):
  assert journal.parse(line) is None


@hypothesis.given(_entries, st.data())
@hypothesis.settings(max_examples=100, deadline=None)
def test_an_entry_with_a_changed_byte_is_an_entry_or_none(entry, data):
  line = bytearray(entry.line())
  at = data.draw(st.integers(0, len(line) - 2))
  line[at] = data.draw(st.integers(0, 255))
  found = journal.parse(bytes(line))
  assert found is None or isinstance(found, journal.Entry)


@hypothesis.given(
  st.lists(_entries | _garbage, max_size=8), st.integers(0, 400)
)
@hypothesis.settings(max_examples=100, deadline=None)
def test_whole_entries_survive_whatever_stands_between_and_a_torn_end(
  parts, cut
):
  """A line of garbage costs itself; a cut costs what it cuts."""
  pieces = [
    part.line()
    if isinstance(part, journal.Entry)
    else part.replace(b'\n', b'') + b'\n'
    for part in parts
  ]
  data = b''.join(pieces)
  kept = data[: max(0, len(data) - cut)]
  whole, offset = [], 0
  for part, piece in zip(parts, pieces, strict=True):
    # Without its line break, an object is whole all the same.
    inside = offset + len(piece) - 1 <= len(kept)
    if inside and isinstance(part, journal.Entry):
      whole.append((offset, part))
    offset += len(piece)
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'journal.jsonl'
    path.write_bytes(kept)
    found = [pair for pair in journal.scan(path) if pair[1]]
    assert found == whole
    # What is written next is read next, after any end.
    offset = _write(path, [ENTRY])[0]
    assert journal.read(path, [offset]) == [ENTRY]
    again = [pair for pair in journal.scan(path) if pair[1]]
    assert again == [*whole, (offset, ENTRY)]


def test_the_first_completion_of_a_sample_is_the_accepted_one(tmp_path):
  path = tmp_path / 'journal.jsonl'
  failed = dataclasses.replace(ENTRY, text='', error='HTTP 400')
  other = dataclasses.replace(ENTRY, text='later')
  first, second, _ = _write(path, [failed, ENTRY, other])
  found = _contents(path)
  assert found.index.completions('train', 3) == [second]
  assert found.index.failures('train', 3) == []
  assert found.index.done('train', 3, 1) and not found.index.done('train', 3, 0)
  # Of the first three rows none, of the first four one.
  counts = [found.index.count({'train': n}) for n in (3, 4, 10)]
  assert counts == [0, 1, 1]
  assert first == 0


def test_a_failure_stands_until_there_is_a_completion(tmp_path):
  path = tmp_path / 'journal.jsonl'
  failed = _changed(error='HTTP 400')
  _, last = _write(path, [failed, failed])
  index = _contents(path).index
  assert index.failures('train', 3) == [last]
  assert index.count({'train': 10}) == 0


def test_samples_of_a_row_are_told_from_those_of_its_neighbors(tmp_path):
  path = tmp_path / 'journal.jsonl'
  places = [(index, sample) for index in (6, 7, 9) for sample in (0, 1, 2)]
  places.remove((7, 0))
  for error in ('', 'HTTP 400'):
    path.unlink(missing_ok=True)
    offsets = _write(
      path, [_changed(index=i, sample=s, error=error) for i, s in places]
    )
    index = _contents(path, samples=3).index
    of_row = index.failures if error else index.completions
    assert [of_row('train', i) for i in range(10)] == [
      *([[]] * 6), offsets[:3], offsets[3:5], [], offsets[5:],
    ]  # fmt: skip
    done = {
      (i, s) for i in range(10) for s in range(3) if index.done('train', i, s)
    }
    assert done == (set() if error else set(places))
  index = journal.Index({'train': 1}, 3)
  for sample in (0, 1):
    index.add(9 * sample, _changed(index=0, sample=sample))
  assert index.count({'train': 1}) == 2
  # In any order, each is read from its own place.
  found = journal.read(path, offsets[::-1])
  assert [(e.index, e.sample) for e in found] == places[::-1]


def test_an_offset_without_an_entry_is_told(tmp_path):
  path = tmp_path / 'journal.jsonl'
  _write(path, [ENTRY])
  with pytest.raises(errors.DataError, match='an entry at byte 3, found none'):
    journal.read(path, [3])


@pytest.mark.parametrize('line', [b'', b'{"a": ', b'[1]'])
def test_what_stands_before_an_entry_costs_it_nothing(tmp_path, line):
  path = tmp_path / 'journal.jsonl'
  path.write_bytes(line + b'\n' + ENTRY.line())
  found = _contents(path)
  assert found.unreadable == 1
  assert found.index.completions('train', 3) == [len(line) + 1]


def test_rows_of_other_tables_have_no_place(tmp_path):
  path = tmp_path / 'journal.jsonl'
  outside = (
    {'index': 10},
    {'sample': 2},
    {'sample': 3},
    {'split': 'test', 'index': 0},
  )
  _write(path, [_changed(**changes) for changes in outside])
  index = _contents(path).index
  assert index.count({'train': 10}) == 0


def test_names_of_counts_take_no_endless_room(tmp_path):
  path = tmp_path / 'journal.jsonl'
  usage = {f'name {n}': 1 for n in range(70)}
  _write(path, [_changed(usage=usage), _changed(sample=0, usage=usage)])
  assert _contents(path).usage == {f'name {n}': 2 for n in range(64)}


def test_a_template_opens_thoughts_where_more_replies_are_in_them():
  index = journal.Index({}, 1)
  for inside, outside, opened in ((1, 0, True), (1, 1, False), (1, 2, False)):
    found = journal.JournalContents(
      index, begun_inside=inside, begun_outside=outside
    )
    assert found.opened is opened


@pytest.mark.parametrize(
  ('asked', 'changed'),
  [
    ({}, {}),
    ({'model': 'big'}, {('model', 'tiny'): 1}),
    ({'temperature': 0.7}, {('temperature', '0.5'): 1}),
    ({'prompt': lambda *_: 5}, {('prompt', 'another'): 1}),
    ({'prompt': lambda *_: None}, {}),
  ],
)
def test_what_was_asked_otherwise_is_told_apart(tmp_path, asked, changed):
  path = tmp_path / 'journal.jsonl'
  _write(path, [ENTRY])
  found = _contents(path, **asked)
  assert found.differences == changed
  assert found.index.count({'train': 10}) == (0 if changed else 1)


def test_completions_are_counted_with_their_tokens(tmp_path):
  def entry(index, text, **changes):
    return dataclasses.replace(ENTRY, index=index, text=text, **changes)

  path = tmp_path / 'journal.jsonl'
  _write(
    path,
    [
      entry(0, 'plain'),
      entry(1, 'so</think> yes', usage={'prompt_tokens': 2, 'more': 3}),
      entry(2, '<think>so</think> yes'),
      entry(3, 'so</think> no'),
      entry(4, 'cut', finish='length', usage={}),
      # Neither is a completion; the first was paid for all the same.
      entry(5, '', error='HTTP 400', usage={'more': 4}),
      entry(6, '', error='HTTP 400', model='big', usage={'more': 5}),
      entry(7, 'plain', model='big', usage={'more': 100}),
      entry(8, 'plain', model='big', usage={'more': 100}),
    ],
  )
  found = _contents(path)
  assert found.usage == {'prompt_tokens': 7 + 2 + 7 + 7, 'more': 3 + 4 + 5}
  assert found.completions == 5
  assert (found.begun_inside, found.begun_outside) == (2, 1)
  assert found.opened
  assert found.index.count({'train': 10}) == 5
  assert found.differences == {('model', 'big'): 2}


@pytest.mark.parametrize(
  ('then', 'now', 'changed'),
  [
    ({'temperature': 0.5}, {}, {('temperature', '0.5'): 1}),
    ({}, {'temperature': 0.5}, {('temperature', 'null'): 1}),
    (
      {'temperature': 0.5, 'top_p': 1},
      {'temperature': 0.5, 'n': 2},
      {('n', 'null'): 1, ('top_p', '1'): 1},
    ),
  ],
)
def test_a_parameter_more_or_less_is_told_apart(tmp_path, then, now, changed):
  path = tmp_path / 'journal.jsonl'
  _write(path, [dataclasses.replace(ENTRY, parameters=then)])
  index = journal.Index({'train': 10}, 2)
  found = journal.contents(path, index, 'tiny', now, _prompt)
  assert found.differences == changed
  assert found.index.count({'train': 10}) == 0


def test_a_value_that_is_nested_too_deep_is_shown_as_such():
  deep = []
  for _ in range(100_000):
    deep = [deep]
  assert journal._shown(deep) == 'a value nested too deep'


@pytest.mark.parametrize('end', [b'{"a', b'\0', b'\t', b''])
def test_a_torn_end_gets_a_line_of_its_own_and_a_whole_one_nothing(
  tmp_path, end
):
  path = tmp_path / 'journal.jsonl'
  path.write_bytes(ENTRY.line() + end)
  other = _changed(sample=0)
  _write(path, [other])
  ended = end + b'\n' if end else b''
  assert path.read_bytes() == ENTRY.line() + ended + other.line()


def test_a_journal_is_a_file_for_others_to_read_and_is_closed(
  tmp_path, monkeypatch
):
  """Its entries have the time at which they came."""
  path, synced, begun = tmp_path / 'journal.jsonl', [], time.time()
  monkeypatch.setattr(os, 'fsync', lambda f: synced.append(os.fstat(f).st_size))
  with journal.Journal(path) as log:
    offset = log.append(journal.Entry('train', 3, 'a', 0, 0, 'tiny', {}))
    log.sync()
  assert -0.001 < journal.read(path, [offset])[0].time - begun < 60
  # When it is asked for, and at the end.
  assert synced == [path.stat().st_size] * 2
  with pytest.raises(OSError):
    os.fstat(log._file)
  umask = os.umask(0)
  os.umask(umask)
  assert path.stat().st_mode & 0o777 == 0o644 & ~umask


@pytest.mark.parametrize('most', [1, 7, 10**6])
def test_a_write_that_takes_a_part_goes_on_with_the_rest(
  tmp_path, monkeypatch, most
):
  path = tmp_path / 'journal.jsonl'
  write = os.write
  other = dataclasses.replace(ENTRY, sample=0, text='other')
  with monkeypatch.context() as patch, journal.Journal(path) as log:
    patch.setattr(os, 'write', lambda file, data: write(file, data[:most]))
    offsets = [log.append(ENTRY), log.append(other)]
  assert offsets == [0, len(ENTRY.line())]
  assert path.read_bytes() == ENTRY.line() + other.line()
  assert journal.read(path, offsets) == [ENTRY, other]


@pytest.mark.parametrize('name', ['index', 'sample'])
def test_a_negative_number_is_no_entry(tmp_path, name):
  path = tmp_path / 'journal.jsonl'
  line = dataclasses.replace(ENTRY, **{name: -1}).line()
  assert journal.parse(line) is None
  # It would count from the end of the table.
  path.write_bytes(line)
  found = _contents(path)
  assert found.unreadable == 1
  assert found.index.count({'train': 10}) == 0


def test_a_journal_makes_its_folder_or_says_where_it_cannot(tmp_path):
  journal.Journal(tmp_path / 'a/b/journal.jsonl').close()
  (tmp_path / 'file').write_text('')
  with pytest.raises(t5x_errors.UserError, match='DSS_TEACHERS'):
    journal.Journal(tmp_path / 'file/journal.jsonl')


def test_rows_beyond_those_asked_about_take_no_room(tmp_path):
  path = tmp_path / 'journal.jsonl'
  _write(path, [dataclasses.replace(ENTRY, index=10**15)])
  assert _contents(path).index.count({'train': 10}) == 0


def test_two_processes_cannot_write_one_journal(tmp_path):
  path = tmp_path / 'journal.jsonl'
  with (
    journal.Journal(path),
    pytest.raises(t5x_errors.UserError, match=f'process {os.getpid()} on'),
  ):
    journal.Journal(path)
  journal.Journal(path).close()


def test_a_journal_that_is_set_aside_is_kept(tmp_path):
  path = tmp_path / 'journal.jsonl'
  assert journal.set_aside(path) is None
  for number in (1, 2):
    path.write_text(str(number))
    aside = journal.set_aside(path)
    assert aside.name == f'journal.{number}.jsonl'
    assert aside.read_text() == str(number)
  assert not path.exists()
  assert len(list(tmp_path.iterdir())) == 2
