"""Real tokens per second of training, beside transformers in PyTorch.

    pip install -e '.[bench]'
    python -m benchmarks.train_step --size small --dtype float32

Both sides train on rows of real lengths (`benchmarks/workload.py`), both tasks
of each, and only real tokens count, not padding. PyTorch trains as in the
paper's code, by default 16 rows at a time. This project packs; `--rows` packed
rows hold a few more. Turns alternate, so that other work of the machine affects
both. MFU is the part that products with kernels, on real tokens, have of the
rate that a large matrix product of `--dtype` reaches in JAX on this device.

On a GPU, where both share its memory:

    export XLA_PYTHON_CLIENT_PREALLOCATE=false
    python -m benchmarks.train_step --size base --dtype bfloat16 --rng rbg \
        --attention cudnn --rows 64 --row-shape 256 96 --pytorch-rows 128 \
        --turn 10 --sides ours best
"""

import argparse
import dataclasses
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable

import jax
import rich.console
import rich.table

from benchmarks import engine, workload


@dataclasses.dataclass(frozen=True)
class Side:
  """What is measured.

  Attributes:
    turn: takes `--turn` steps; returns the real tokens they trained on.
    peak_bytes: most of an accelerator's memory that was used; 0 if unknown.
  """

  turn: Callable[[], workload.Tokens]
  peak_bytes: Callable[[], int]


def our_step(options: argparse.Namespace) -> Side:
  """Returns this project's trainer."""
  rows = workload.examples(engine.VOCAB_SIZE, 1024)
  batches = list(workload.packed_batches(rows, options.rows, options.row_shape))
  config = engine.config(
    options.size,
    options.dtype,
    scan_layers=options.scan,
    remat_policy=options.remat,
    attention_kernel=options.attention,
  )
  trainer = engine.make_trainer(
    engine.make_model(config), batches[0], options.rng
  )

  def peak_bytes():
    memory = jax.local_devices()[0].memory_stats() or {}
    return memory.get('peak_bytes_in_use', 0)

  return Side(engine.stepper(trainer, batches, options.turn), peak_bytes)


def pytorch_step(
  options: argparse.Namespace, best: bool, compiled: bool = False
) -> Side:
  """Returns transformers."""
  from benchmarks import torch_peer

  rows = workload.examples(engine.VOCAB_SIZE, 1024)
  each = options.pytorch_rows
  groups = [rows[i : i + each] for i in range(0, len(rows) - each + 1, each)]
  device = 'cpu' if jax.default_backend() == 'cpu' else 'cuda'
  stepper = torch_peer.Stepper(options.size, best, device, compiled)
  upcoming = itertools.cycle(groups)

  def turn():
    taken = list(itertools.islice(upcoming, options.turn))
    losses = [stepper.step(group) for group in taken]
    losses[-1].item()  # Waits.
    return workload.together(row.tokens for group in taken for row in group)

  return Side(turn, stepper.peak_bytes)


def measure(
  sides: dict[str, Side], options: argparse.Namespace
) -> dict[str, list[tuple[float, workload.Tokens]]]:
  """Times the sides in turn, after `--warm-up` turns of each.

  Returns:
    Name to (seconds, real tokens) of each turn.
  """
  measured: dict[str, list] = {name: [] for name in sides}
  for number in range(options.warm_up + options.steps):
    for name, side in sides.items():
      start = time.perf_counter()
      tokens = side.turn()
      if number >= options.warm_up:
        measured[name].append((time.perf_counter() - start, tokens))
  return measured


def _table(
  measured: dict[str, list[tuple[float, workload.Tokens]]],
  options: argparse.Namespace,
  sides: dict[str, Side],
  matrix_rate: float,
) -> rich.table.Table:
  rates = {
    name: statistics.median(tokens.total / seconds for seconds, tokens in steps)
    for name, steps in measured.items()
  }
  slowest = min(rates.values())
  table = rich.table.Table(
    *('side', 's/step', 'tokens/step', 'tokens/s', '×', 'MFU', 'GiB'),
    caption=f'a matrix product: {matrix_rate / 1e12:.4g} TFLOP/s',
  )
  for name, steps in measured.items():
    used = statistics.median(
      engine.product_flops(options.size, tokens) / seconds
      for seconds, tokens in steps
    )
    peak = sides[name].peak_bytes()
    table.add_row(
      name,
      f'{statistics.median(s for s, _ in steps) / options.turn:.3f}',
      f'{statistics.mean(t.total for _, t in steps) / options.turn:.0f}',
      f'{rates[name]:.0f}',
      f'{rates[name] / slowest:.2f}',
      f'{used / matrix_rate:.1%}',
      f'{peak / 2**30:.1f}' if peak else '',
    )
  return table


def main() -> None:
  """Measures and prints a table."""
  parser = engine.parser(__doc__)
  parser.add_argument(
    '--rows', type=int, default=8, help='packed rows per step'
  )
  parser.add_argument(
    '--row-shape', type=int, nargs=2, default=(256, 80), metavar=('L', 'T')
  )
  parser.add_argument('--rng', default='threefry2x32')
  parser.add_argument('--scan', action='store_true')
  parser.add_argument('--remat', default='none')
  parser.add_argument(
    '--attention', default='xla', choices=['xla', 'cudnn', 'pallas']
  )
  parser.add_argument('--steps', type=int, default=9, help='turns of a side')
  parser.add_argument(
    '--turn',
    type=int,
    default=1,
    help='steps of a turn; the last is waited for',
  )
  parser.add_argument(
    '--warm-up', type=int, default=1, help='turns that are not timed'
  )
  parser.add_argument(
    '--pytorch-rows', type=int, default=16, help='examples per step'
  )
  parser.add_argument(
    '--sides',
    nargs='+',
    default=['ours', 'released'],
    choices=['ours', 'released', 'best', 'compiled'],
    help='released: PyTorch in float32; best: bfloat16, fused AdamW and'
    " PyTorch's attention; compiled: that with torch.compile",
  )
  parser.add_argument('--json', help='append the raw times to this file')
  options = parser.parse_args()
  make = {
    'ours': lambda: our_step(options),
    'released': lambda: pytorch_step(options, best=False),
    'best': lambda: pytorch_step(options, best=True),
    'compiled': lambda: pytorch_step(options, best=True, compiled=True),
  }
  # Before the memory is full of weights.
  matrix_rate = engine.matrix_rate(options.dtype)
  sides = {s: make[s]() for s in options.sides}
  measured = measure(sides, options)
  table = _table(measured, options, sides, matrix_rate)
  rich.console.Console().print(table)
  if options.json:
    with open(options.json, 'a', encoding='utf-8') as file:
      file.write(json.dumps({'command': sys.argv, 'steps': measured}) + '\n')


if __name__ == '__main__':
  main()
