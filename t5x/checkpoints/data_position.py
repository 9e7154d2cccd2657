"""Where a checkpoint keeps the position in the data.

```
checkpoint_1000/dataset/
  metadata          {"batches": 1000}
  part_0-of-2       a snapshot of the pipeline of each part of the data, if
  part_1-of-2       there was one: see `data.snapshots`
```

The position is the same for all hosts. Each host writes the snapshot of the
part that it reads.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from t5x.checkpoints.formats import orbax


def read_snapshot(path: str, part: str) -> bytes | None:
  """Reads one part's snapshot.

  Args:
    path: the checkpoint.
    part: such as '0-of-2'.

  Returns:
    The file, or None if there is none.
  """
  folder = epath.Path(path) / orbax.DATASET_ITEM
  file = folder / f'part_{part}'
  return file.read_bytes() if file.exists() else None


class PositionHandler(ocp.AsyncCheckpointHandler):
  """Writes a position, and this host's snapshot, as an item of a checkpoint."""

  async def async_save(
    self, directory: epath.Path, args: 'PositionSave'
  ) -> list[ocp.future.Future]:
    """Begins to write; the future says when it is done."""

    async def write():
      self.save(directory, args)

    return [
      ocp.future.CommitFutureAwaitingContractedSignals(
        write(), name='position_save'
      )
    ]

  def save(self, directory: epath.Path, args: 'PositionSave') -> None:
    """Writes them while the caller waits."""
    if jax.process_index() == 0:
      file = directory / orbax.POSITION_FILE
      file.write_text(json.dumps(dict(args.position)))
    if args.snapshot is not None:
      (directory / f'part_{args.part}').write_bytes(args.snapshot)

  def restore(self, directory: epath.Path, args: Any = None) -> Any:
    """Reads the position."""
    return json.loads((directory / orbax.POSITION_FILE).read_text())


# Orbax wants to know how it would be restored, too.
@ocp.args.register_with_handler(
  PositionHandler, for_save=True, for_restore=True
)
@dataclasses.dataclass
class PositionSave(ocp.args.CheckpointArgs):
  """What `PositionHandler` writes.

  Attributes:
    position: the same on all hosts.
    part: which part of the data this host reads.
    snapshot: of the part's pipeline; None writes none.
  """

  position: Mapping[str, Any]
  part: str | None = None
  snapshot: bytes | None = None

  @classmethod
  def of(cls, dataset_iterator: Any) -> 'PositionSave':
    """Takes an iterator's position, and its snapshot if it gives any."""
    position = dataset_iterator.get_state()
    if not hasattr(dataset_iterator, 'get_snapshot'):
      return cls(position)
    return cls(position, dataset_iterator.part, dataset_iterator.get_snapshot())


def restore(dataset_iterator: Any, path: str, position: Any) -> None:
  """Sends an iterator to the position that a checkpoint holds.

  Args:
    dataset_iterator: with `set_state`, and `set_snapshot` if it takes any.
    path: the checkpoint.
    position: what was saved in it.
  """
  dataset_iterator.set_state(position)
  if hasattr(dataset_iterator, 'set_snapshot'):
    snapshot = read_snapshot(path, dataset_iterator.part)
    if snapshot is not None:
      dataset_iterator.set_snapshot(snapshot)
