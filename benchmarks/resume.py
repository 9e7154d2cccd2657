"""Time that a resumed run takes to return to its position in the data.

    python benchmarks/resume.py --batches=3000

Reads the packed CommonsenseQA sample up to a position and returns to it in two
ways: by reading everything again, and from the last snapshot, as in a
checkpoint. The batches that follow have to be the same.
"""

import os
import resource
import time

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import click

from dss_jax import mixtures
from dss_jax.pipeline import feature_converter
from t5x import data
from t5x.data import snapshots

# More often than in a run, so that short runs have a snapshot as well.
_PERIOD_SECONDS = 2.0
_COMPARED = 20


class _Watch:
  """Wall-clock and CPU seconds since its creation."""

  def __init__(self):
    self._wall, self._cpu = time.perf_counter(), self._used()

  def _used(self) -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

  def __str__(self) -> str:
    wall = time.perf_counter() - self._wall
    return f'{wall:.2f} s ({self._used() - self._cpu:.2f} s of CPU)'


def _iterator() -> data.TrainIterator:
  config = data.DatasetConfig(
    mixture_or_task_name=mixtures.train_mixture(data_set='cqa'),
    task_feature_lengths={'inputs': 256, 'targets': 128},
    split='train',
    batch_size=16,
    shuffle=True,
    seed=0,
    pack=True,
  )
  dataset = data.get_dataset(
    config, 0, 1, feature_converter.DistillFeatureConverter
  )
  return data.TrainIterator(dataset, dict, snapshot_period=_PERIOD_SECONDS)


def _checksums(iterator: data.TrainIterator) -> list[int]:
  return [snapshots.checksum(next(iterator)) for _ in range(_COMPARED)]


@click.command()
@click.option('--batches', default=3000, help='Position of the run.')
def main(batches: int) -> None:
  """Prints the times, and the size of the snapshot."""
  first, watch = _iterator(), _Watch()
  for _ in range(batches):
    next(first)
  print(f'{batches} batches read in {watch}')
  state, snapshot = first.get_state(), first.get_snapshot()
  expected = _checksums(first)
  first.close()
  if snapshot is None:
    raise click.ClickException('No snapshot yet: give more --batches.')
  size = snapshots.Snapshot.from_bytes(snapshot).state_bytes
  print(f'Snapshot: {len(snapshot):,} bytes, uncompressed {size:,}')
  for kind in ('reading again', 'from the snapshot'):
    iterator = _iterator()
    iterator.set_state(state)
    if kind == 'from the snapshot':
      iterator.set_snapshot(snapshot)
    watch = _Watch()
    checksums = [snapshots.checksum(next(iterator))]
    print(f'Back at the position, {kind}: {watch}')
    checksums += [snapshots.checksum(next(iterator)) for _ in expected[1:]]
    iterator.close()
    if checksums != expected:
      raise click.ClickException('Different batches followed.')


if __name__ == '__main__':
  main()
