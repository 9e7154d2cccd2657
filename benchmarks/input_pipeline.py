r"""Examples per second of the input pipeline alone, and the fill of its rows.

    python -m benchmarks.input_pipeline
    python -m benchmarks.input_pipeline --data=PATH --row-shape 256 96 \
        --vocabulary=spiece.model

The first reads the packaged sample. PATH is a release in the published layout
(or `release`, which is downloaded), the vocabulary a T5's SentencePiece model,
on which the number of tokens and so everything else depends.

What is measured is what a training run reads: both tasks mixed, shuffled,
trimmed, packed, in batches. The first pass tokenizes; later ones of a data set
with fewer than 10,000 rows find the tokens in memory. CPU-seconds are summed
over the threads of the process.

The last line is the fill of the paper's own batches with the same examples:
each task in batches of 16, both sides padded to the longest example.
"""

import argparse
import dataclasses
import itertools
import resource
import time
from collections.abc import Iterator, Mapping

import numpy as np
import rich.console
import rich.table

from t5x.cli import quiet_tensorflow

_PAPER_ROWS = 16
_SIDES = ('encoder', 'decoder')

Batch = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Rates:
  """Time that some batches took, and what they held."""

  seconds: float
  cpu_seconds: float
  batches: int
  examples: int
  encoder_fill: float
  decoder_fill: float


def batches(options: argparse.Namespace, row_shape: tuple[int, int]):
  """Returns a dataset of batches, as a training run reads them."""
  from dss_jax import mixtures, vocabularies
  from dss_jax.pipeline import feature_converter
  from t5x import data

  experiment = mixtures.Experiment(
    data_set=options.data_set,
    data=options.data,
    method=options.method,
    paired=options.paired,
    vocabulary=vocabularies.vocabulary(options.vocabulary),
  )
  step = mixtures.Step(
    experiment,
    dict(zip(('inputs', 'targets'), row_shape, strict=True)),
    options.labels,
    None if options.labels else options.rows,
    seed=options.seed,
  )
  config = data.DatasetConfig(
    mixture_or_task_name=mixtures.step_mixture(step),
    task_feature_lengths=step.task_feature_lengths,
    split='train',
    batch_size=mixtures.rows_per_step(step),
    shuffle=True,
    seed=options.seed,
    pack=True,
  )
  converter = feature_converter.DistillFeatureConverter
  name = mixtures.train_mixture(experiment)
  return name, data.get_dataset(config, 0, 1, converter)


def measure(upcoming: Iterator[Batch], examples: int) -> Rates:
  """Reads batches until they have held so many examples."""
  seen = count = 0
  fills = []
  start, cpu_start = time.perf_counter(), _cpu_seconds()
  while seen < examples:
    batch = next(upcoming)
    seen += int(batch['encoder_segment_ids'].max(1).sum())
    fills.append([np.count_nonzero(batch[f'{s}_segment_ids']) for s in _SIDES])
    count += 1
  seconds, cpu_seconds = (
    time.perf_counter() - start, _cpu_seconds() - cpu_start
  )  # fmt: skip
  sizes = [count * batch[f'{s}_segment_ids'].size for s in _SIDES]
  encoder, decoder = np.sum(fills, 0) / sizes
  return Rates(seconds, cpu_seconds, count, seen, encoder, decoder)


def padded_fill(name: str, seed: int, rows: int) -> tuple[float, float]:
  """Returns the fill of batches of 16 padded to their longest example.

  Args:
    name: of a mixture; its tasks are padded separately, as in the paper's code.
    seed: of shuffling.
    rows: examples to read of each task.

  Returns:
    The fractions of the encoder's and of the decoder's positions that are real.
  """
  import seqio

  used, all_positions = np.zeros(2), np.zeros(2)
  for task in seqio.get_mixture_or_task(name).tasks:
    dataset = task.get_dataset(None, 'train', seed=seed).take(rows)
    examples = dataset.as_numpy_iterator()
    while group := list(itertools.islice(examples, _PAPER_ROWS)):
      for inputs, targets in (
        ('inputs', 'targets'),
        ('rationale_inputs', 'rationale_targets'),
      ):
        if inputs not in group[0]:
          continue
        lengths = np.array([[len(x[inputs]), len(x[targets])] for x in group])
        used += lengths.sum(0)
        all_positions += lengths.max(0) * len(group)
  return tuple(used / all_positions)


def _cpu_seconds() -> float:
  used = resource.getrusage(resource.RUSAGE_SELF)
  return used.ru_utime + used.ru_stime


def _table() -> rich.table.Table:
  table = rich.table.Table(
    caption='Fractions of positions that are not padding'
  )
  for column in (
    'rows', 'pass', 'examples/s', 'per CPU-s', 'batches/s', 'encoder', 'decoder'
  ):  # fmt: skip
    table.add_column(column, justify='right')
  return table


def _add(table: rich.table.Table, shape: str, name: str, rates: Rates) -> None:
  table.add_row(
    shape,
    name,
    f'{rates.examples / rates.seconds:,.0f}',
    f'{rates.examples / rates.cpu_seconds:,.0f}',
    f'{rates.batches / rates.seconds:,.1f}',
    f'{100 * rates.encoder_fill:.1f}%',
    f'{100 * rates.decoder_fill:.1f}%',
  )


def _options() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--data', default='sample')
  parser.add_argument('--data-set', default='cqa')
  parser.add_argument('--method', default='dss')
  parser.add_argument('--paired', action='store_true')
  parser.add_argument('--vocabulary', help="without it, the sample's")
  parser.add_argument(
    '--row-shape', type=int, nargs=2, action='append', metavar=('L', 'T')
  )
  parser.add_argument('--rows', type=int, default=32, help='rows of a batch')
  parser.add_argument('--labels', type=int, help='label examples of a batch')
  parser.add_argument('--examples', type=int, default=200_000)
  parser.add_argument('--seed', type=int, default=0)
  return parser.parse_args()


def main() -> None:
  """Measures and prints a table."""
  options = _options()
  quiet_tensorflow.load()
  import seqio

  table = _table()
  for row_shape in options.row_shape or [(256, 96), (512, 192)]:
    name, dataset = batches(options, tuple(row_shape))
    rows = seqio.get_mixture_or_task(name).num_input_examples('train')
    rows = min(rows, options.examples)
    upcoming = dataset.as_numpy_iterator()
    shape = '/'.join(map(str, row_shape))
    _add(table, shape, 'first', measure(upcoming, rows))
    # Tasks are drawn at random, so that their first passes end one by one.
    measure(upcoming, rows)
    _add(table, shape, 'later', measure(upcoming, options.examples))
  console = rich.console.Console()
  console.print(table)
  encoder, decoder = padded_fill(name, options.seed, rows)
  console.print(
    f'Padded to the longest of {_PAPER_ROWS}, each task separately: encoder'
    f' {100 * encoder:.1f}%, decoder {100 * decoder:.1f}%.',
    soft_wrap=True,
  )


if __name__ == '__main__':
  main()
