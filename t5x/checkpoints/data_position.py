"""Data position in a checkpoint, and how Orbax saves it.

```
checkpoint_1000/dataset/
  metadata          {"batches": 1000}
  part_0-of-2       a snapshot of the pipeline of each part of the data, if
  part_1-of-2       it gave one: see `data.snapshots`
```

The position is the same for all hosts. Each host writes the snapshot of the
part that it reads.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import orbax.checkpoint as ocp
from etils import epath

from t5x.checkpoints.formats import orbax


class DatasetIterator(Protocol):
  """An iterator whose position can be saved and restored."""

  def get_state(self) -> Mapping[str, Any]:
    """Returns the position, as small values for JSON."""

  def set_state(self, state: Mapping[str, Any]) -> None:
    """Goes to a position that `get_state` returned."""


@runtime_checkable
class SnapshotIterator(DatasetIterator, Protocol):
  """An iterator that also gives a snapshot: a shorter way to a position.

  Attributes:
    part: which part of the data it reads, such as '0-of-2'.
  """

  part: str

  def get_snapshot(self) -> bytes | None:
    """Returns the snapshot to save with the position, if there is any."""

  def set_snapshot(self, content: bytes) -> None:
    """Takes a snapshot that `get_snapshot` returned, after `set_state`."""


class PositionHandler(ocp.AsyncCheckpointHandler):
  """Writes a position, and this host's snapshot, as an item of a checkpoint."""

  async def async_save(
    self, directory: epath.Path, args: 'PositionSave'
  ) -> list[ocp.future.Future]:
    """Writes in the background; returns the future of it."""

    async def write():
      self.save(directory, args)

    return [
      ocp.future.CommitFutureAwaitingContractedSignals(
        write(), name='position_save'
      )
    ]

  def save(self, directory: epath.Path, args: 'PositionSave') -> None:
    """Writes while the caller waits."""
    if jax.process_index() == 0:
      file = directory / orbax.POSITION_FILE
      file.write_text(json.dumps(dict(args.position)))
    if args.snapshot is not None:
      (directory / f'part_{args.part}').write_bytes(args.snapshot)

  def restore(self, directory: epath.Path, args: Any = None) -> Any:
    """Reads the position."""
    return json.loads((directory / orbax.POSITION_FILE).read_text())


# Orbax also requires a handler for restoring.
@ocp.args.register_with_handler(
  PositionHandler, for_save=True, for_restore=True
)
@dataclasses.dataclass
class PositionSave(ocp.args.CheckpointArgs):
  """What `PositionHandler` writes.

  Attributes:
    position: the same on all hosts.
    part: which part of the data this host reads.
    snapshot: of the part's pipeline, if there is any.
  """

  position: Mapping[str, Any]
  part: str | None = None
  snapshot: bytes | None = None

  @classmethod
  def of(cls, dataset_iterator: DatasetIterator) -> 'PositionSave':
    """Returns an iterator's position, with its snapshot if it gives any."""
    position = dataset_iterator.get_state()
    if not isinstance(dataset_iterator, SnapshotIterator):
      return cls(position)
    return cls(position, dataset_iterator.part, dataset_iterator.get_snapshot())


def restore(
  dataset_iterator: DatasetIterator, path: str, position: Mapping[str, Any]
) -> None:
  """Sends an iterator to the position that a checkpoint holds.

  Args:
    dataset_iterator: also gets the part's snapshot, if it takes any.
    path: the checkpoint.
    position: what was saved in it.
  """
  dataset_iterator.set_state(position)
  if isinstance(dataset_iterator, SnapshotIterator):
    folder = epath.Path(path) / orbax.DATASET_ITEM
    snapshot = folder / f'part_{dataset_iterator.part}'
    if snapshot.exists():
      dataset_iterator.set_snapshot(snapshot.read_bytes())
