"""Rows of a user's own, few and short."""

import json

import pytest

LABELS = ('billing', 'fault')


@pytest.fixture
def rows(tmp_path, monkeypatch):
  """The working folder, with `rows.jsonl` of 40 rows."""
  monkeypatch.chdir(tmp_path)
  lines = [
    {
      'ticket': f'case {n} is {LABELS[n % 2]}',
      'label': LABELS[n % 2],
      'rationale': f'It says {LABELS[n % 2]}.',
    }
    for n in range(40)
  ]
  (tmp_path / 'rows.jsonl').write_text('\n'.join(map(json.dumps, lines)))
  return tmp_path
