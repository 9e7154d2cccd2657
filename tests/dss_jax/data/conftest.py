"""Files of rows for the tests of this folder."""

import json

import pytest


@pytest.fixture
def write(tmp_path):
  """Returns a function that writes JSON lines and returns their path."""

  def written(rows, name='rows.jsonl'):
    path = tmp_path / name
    path.write_text('\n'.join(map(json.dumps, rows)) + '\n')
    return str(path)

  return written
