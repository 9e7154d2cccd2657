r"""Growth of the time of a training step with the work, in a picture.

    pip install -e '.[bench]'
    JAX_PLATFORMS=cpu XLA_FLAGS=--xla_force_host_platform_device_count=8 \
      python -m benchmarks.growth --out docs/growth

Three series, each over packed batches of real lengths
(`benchmarks/workload.py`):

rows     rows of a batch double, their shape stays the same.
length   positions of a row double and rows halve, so that the tokens of a
         batch stay the same: the growth is that of attention.
devices  one batch over 1, 2, 4, 8 devices, data parallel, and with two model
         partitions. Virtual devices of one CPU share its cores, so the same
         work should take the same time: additional time is the overhead of
         splitting it. Parameters and the optimizer's state are split too
         (parameter_partitioning_dims=2), since otherwise each device would do
         the whole update.

The steps of a series' points alternate, so that other work of the machine
affects all of them. Raw times go to `<out>.json`, the picture to `<out>.png`.
"""

import dataclasses
import itertools
import json
import statistics
import time
from collections.abc import Callable, Sequence

import jax
import rich.console
import rich.table

from benchmarks import engine, workload
from t5x import partitioning

_TOKENS = 256 * 8


@dataclasses.dataclass(frozen=True)
class Point:
  """One kind of step.

  Attributes:
    series: 'rows', 'length' or 'devices'.
    label: its name on the axis.
    rows: B of a batch.
    row_shape: (L, T) of a packed row.
    devices: the number of devices used.
    partitions: model partitions.
  """

  series: str
  label: str
  rows: int
  row_shape: tuple[int, int]
  devices: int = 1
  partitions: int = 1


def points(device_rows: int) -> list[Point]:
  """Returns the points of all series, `device_rows` rows on the devices."""
  result = [
    Point('rows', str(rows), rows, (256, 84)) for rows in (2, 4, 8, 16, 32)
  ]
  for length in (128, 256, 512, 1024):
    shape = (length, length // 3)
    result.append(Point('length', str(length), _TOKENS // length, shape))
  for partitions in (1, 2):
    for devices in (1, 2, 4, 8):
      if partitions <= devices <= jax.device_count():
        label = f'{devices}' if partitions == 1 else f'{devices} ({partitions})'
        result.append(
          Point('devices', label, device_rows, (256, 84), devices, partitions)
        )
  return result


def _step(
  point: Point, size: str, dtype: str, rows: Sequence[workload.Example]
) -> Callable[[], workload.Tokens]:
  """Returns a function that takes a step and returns its real tokens."""
  batches = list(workload.packed_batches(rows, point.rows, point.row_shape))
  partitioner = partitioning.PjitPartitioner(
    num_partitions=point.partitions,
    logical_axis_rules=partitioning.standard_logical_axis_rules(
      parameter_partitioning_dims=2 if point.series == 'devices' else 1
    ),
    devices=jax.devices()[: point.devices],
  )
  model = engine.make_model(engine.config(size, dtype))
  trainer = engine.make_trainer(model, batches[0], partitioner=partitioner)
  return engine.stepper(trainer, batches)


def measure(
  chosen: Sequence[Point], size: str, dtype: str, steps: int
) -> list[dict]:
  """Times steps of some points in turn, after one of each to warm up."""
  rows = workload.examples(engine.VOCAB_SIZE, 2048)
  takes = [_step(point, size, dtype, rows) for point in chosen]
  entries = [
    {**dataclasses.asdict(p), 'size': size, 'times': []} for p in chosen
  ]
  for number in range(steps + 1):
    for take, entry in zip(takes, entries, strict=True):
      start = time.perf_counter()
      tokens = take().total
      if number:
        entry['times'].append((time.perf_counter() - start, tokens))
  return entries


def seconds(entry: dict) -> float:
  """Median seconds of a step."""
  return statistics.median(s for s, _ in entry['times'])


def rate(entry: dict) -> float:
  """Median real tokens per second."""
  return statistics.median(tokens / s for s, tokens in entry['times'])


def table(measured: Sequence[dict]) -> rich.table.Table:
  """Returns all points, each against the first of its series."""
  shown = rich.table.Table(
    'series', 'at', 'size', 'B', 'L, T', 's/step', 'tokens/s', '× first'
  )
  for _, series in itertools.groupby(measured, lambda e: e['series']):
    entries = list(series)
    for entry in entries:
      shown.add_row(
        entry['series'],
        entry['label'],
        entry['size'],
        str(entry['rows']),
        '{}, {}'.format(*entry['row_shape']),
        f'{seconds(entry):.3f}',
        f'{rate(entry):,.0f}',
        f'{seconds(entry) / seconds(entries[0]):.2f}',
      )
  return shown


def draw(measured: Sequence[dict], path: str) -> None:
  """Draws one panel for each series, its time in units of the first point."""
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot as plt

  titles = {
    'rows': ('rows per batch', 'More rows'),
    'length': ('positions per row', 'Longer rows, as many tokens'),
    'devices': ('devices (model partitions)', 'The same batch, split'),
  }
  figure, panels = plt.subplots(
    1, len(titles), figsize=(10.5, 3.4), constrained_layout=True
  )
  for panel, (name, (axis, title)) in zip(panels, titles.items(), strict=True):
    entries = [entry for entry in measured if entry['series'] == name]
    if not entries:
      continue
    first = seconds(entries[0])
    labels = [entry['label'] for entry in entries]
    factors = [seconds(entry) / first for entry in entries]
    panel.plot(labels, factors, 'o-', label='measured')
    if name == 'rows':
      ideal = [entry['rows'] / entries[0]['rows'] for entry in entries]
      panel.set_yscale('log', base=2)
    else:
      ideal = [1.0] * len(entries)
      panel.set_ylim(0, 1.15 * max(factors))
    panel.plot(labels, ideal, '--', color='#666666', label='proportional')
    panel.set_xlabel(axis)
    panel.set_ylabel('time of a step ÷ first')
    panel.set_title(f'{title} (T5 1.1 {entries[0]["size"]})', fontsize=10)
    panel.grid(alpha=0.3)
    panel.legend(loc='lower right')
  figure.savefig(path, dpi=150)


def main() -> None:
  """Measures, prints a table and draws."""
  parser = engine.parser(__doc__)
  parser.add_argument('--steps', type=int, default=5)
  parser.add_argument(
    '--device-rows', type=int, default=32, help='rows over the devices'
  )
  parser.add_argument(
    '--series',
    nargs='+',
    default=['rows', 'length', 'devices'],
    choices=['rows', 'length', 'devices'],
  )
  parser.add_argument('--out', help='stem of the files; by default none')
  options = parser.parse_args()
  measured = []
  for name in options.series:
    chosen = [p for p in points(options.device_rows) if p.series == name]
    measured += measure(chosen, options.size, options.dtype, options.steps)
    jax.clear_caches()
  rich.console.Console().print(table(measured))
  if options.out:
    with open(f'{options.out}.json', 'w', encoding='utf-8') as file:
      json.dump(measured, file)
    draw(measured, f'{options.out}.png')


if __name__ == '__main__':
  main()
