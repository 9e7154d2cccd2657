"""The position in the data as an item of a checkpoint."""

import json

import jax
import pytest
from etils import epath

from t5x.checkpoints import data_position
from tests import toy_model
from tests.t5x.checkpoints import toy_runs


class _WithSnapshot(toy_model.Position):
  part = '1-of-2'
  snapshot: bytes | None = b'short way'

  def get_snapshot(self):
    return self.snapshot

  def set_snapshot(self, content):
    # After the position, which would undo it.
    self.snapshot = content + b' from %d' % self.batches


def _saved(tmp_path, iterator):
  folder = epath.Path(tmp_path / 'dataset')
  folder.mkdir()
  data_position.PositionHandler().save(
    folder, data_position.PositionSave.of(iterator)
  )
  return sorted(p.name for p in folder.iterdir())


def test_a_snapshot_lies_beside_the_position_and_comes_back(tmp_path):
  there = _WithSnapshot(5)
  assert _saved(tmp_path, there) == ['metadata', 'part_1-of-2']
  folder = epath.Path(tmp_path / 'dataset')
  assert json.loads((folder / 'metadata').read_text()) == {'batches': 5}
  position = data_position.PositionHandler().restore(folder)
  assert position == {'batches': 5}
  here = _WithSnapshot()
  data_position.restore(here, str(tmp_path), position)
  assert (here.batches, here.snapshot) == (5, b'short way from 5')
  # One that reads another part of the data, and one that takes none.
  other = _WithSnapshot()
  other.part, other.snapshot = '0-of-2', None
  data_position.restore(other, str(tmp_path), position)
  assert (other.batches, other.snapshot) == (5, None)
  plain = toy_model.Position()
  data_position.restore(plain, str(tmp_path), position)
  assert plain.batches == 5


@pytest.mark.parametrize('snapshot', [None, b''])
def test_what_there_is_of_a_snapshot_is_written(tmp_path, snapshot):
  there = _WithSnapshot(5)
  there.snapshot = snapshot
  parts = [] if snapshot is None else ['part_1-of-2']
  assert _saved(tmp_path, there) == ['metadata', *parts]


def test_each_process_writes_its_snapshot_and_one_the_position(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(data_position, 'jax', toy_runs.AsProcess(1))
  assert data_position.jax.tree is jax.tree
  assert _saved(tmp_path, _WithSnapshot(5)) == ['part_1-of-2']
