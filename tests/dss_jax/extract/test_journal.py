"""Tests of the journal: what was paid for is never lost, and never mixed."""

import dataclasses
import json
import os
import pathlib
import tempfile

import hypothesis
import pytest
from hypothesis import strategies as st

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
  text=st.text(st.characters(codec=None)),
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


def _write(path, entries):
  with journal.Journal(path) as log:
    return [log.append(entry) for entry in entries]


def _prompt(split, index):
  return ENTRY.prompt


def _contents(path, model='tiny', temperature=0.5, prompt=_prompt):
  index = journal.Index({'train': 10}, 2)
  return journal.contents(
    path, index, model, {'temperature': temperature}, prompt
  )


@hypothesis.given(_entries)
@hypothesis.settings(max_examples=100, deadline=None)
def test_an_entry_is_one_line_and_read_back(entry):
  line = entry.line()
  assert line.count(b'\n') == 1
  assert journal.parse(line) == entry


def test_a_time_is_kept_to_the_millisecond():
  entry = dataclasses.replace(ENTRY, time=1700000000.123456)
  assert journal.parse(entry.line()).time == 1700000000.123


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
  assert found.index.count({'train': 10}) == 1
  assert first == 0


def test_a_failure_stands_until_there_is_a_completion(tmp_path):
  path = tmp_path / 'journal.jsonl'
  offsets = _write(path, [dataclasses.replace(ENTRY, error='HTTP 400')])
  index = _contents(path).index
  assert index.failures('train', 3) == offsets
  assert index.count({'train': 10}) == 0


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
    ],
  )
  found = _contents(path)
  assert found.usage == {'prompt_tokens': 7 + 2 + 7 + 7, 'more': 3 + 4 + 5}
  assert found.completions == 5
  assert (found.begun_inside, found.begun_outside) == (2, 1)
  assert found.opened
  assert found.index.count({'train': 10}) == 5
  assert found.differences == {('model', 'big'): 1}


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
    assert journal.set_aside(path).read_text() == str(number)
  assert not path.exists()
  assert len(list(tmp_path.iterdir())) == 2
