"""Real tokens per second of training, beside transformers in PyTorch.

    pip install -e '.[bench]'
    python -m benchmarks.train_step --size small --dtype float32

Both sides train on rows of real lengths (`benchmarks/workload.py`), both tasks
of each, and only real tokens count, not padding. PyTorch trains as in the
paper's code, 16 rows at a time. This project packs; `--rows` packed rows hold a
few more. Steps alternate, so that other work of the machine affects both.
"""

import argparse
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

_PYTORCH_ROWS = 16

# Takes a step; returns the number of real tokens it trained on.
Step = Callable[[], int]


def our_step(options: argparse.Namespace) -> Step:
  """Returns a step of this project's trainer."""
  rows = workload.examples(engine.VOCAB_SIZE, 1024)
  batches = list(workload.packed_batches(rows, options.rows, options.row_shape))
  config = engine.config(
    options.size,
    options.dtype,
    scan_layers=options.scan,
    remat_policy=options.remat,
  )
  trainer = engine.make_trainer(
    engine.make_model(config), batches[0], options.rng
  )
  return engine.stepper(trainer, batches)


def pytorch_step(options: argparse.Namespace, best: bool) -> Step:
  """Returns a step of transformers."""
  from benchmarks import torch_peer

  rows = workload.examples(engine.VOCAB_SIZE, 1024)
  groups = [
    rows[i : i + _PYTORCH_ROWS] for i in range(0, len(rows), _PYTORCH_ROWS)
  ]
  device = 'cpu' if jax.default_backend() == 'cpu' else 'cuda'
  stepper = torch_peer.Stepper(options.size, best, device)
  upcoming = itertools.cycle(groups)

  def step():
    group = next(upcoming)
    stepper.step(group)
    return sum(row.tokens for row in group)

  return step


def measure(
  sides: dict[str, Step], steps: int
) -> dict[str, list[tuple[float, int]]]:
  """Times steps of all sides in turn, after one warm-up step of each.

  Returns:
    Name to (seconds, real tokens) of each step.
  """
  for step in sides.values():
    step()
  measured: dict[str, list[tuple[float, int]]] = {name: [] for name in sides}
  for _ in range(steps):
    for name, step in sides.items():
      start = time.perf_counter()
      tokens = step()
      measured[name].append((time.perf_counter() - start, tokens))
  return measured


def _table(measured: dict[str, list[tuple[float, int]]]) -> rich.table.Table:
  rates = {
    name: statistics.median(tokens / seconds for seconds, tokens in steps)
    for name, steps in measured.items()
  }
  slowest = min(rates.values())
  table = rich.table.Table('side', 's/step', 'tokens/step', 'tokens/s', '×')
  for name, steps in measured.items():
    table.add_row(
      name,
      f'{statistics.median(s for s, _ in steps):.3f}',
      f'{statistics.mean(t for _, t in steps):.0f}',
      f'{rates[name]:.0f}',
      f'{rates[name] / slowest:.2f}',
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
  parser.add_argument('--steps', type=int, default=9)
  parser.add_argument(
    '--sides',
    nargs='+',
    default=['ours', 'released'],
    choices=['ours', 'released', 'best'],
    help='released: PyTorch in float32; best: bfloat16, fused AdamW',
  )
  parser.add_argument('--json', help='append the raw times to this file')
  options = parser.parse_args()
  make = {
    'ours': lambda: our_step(options),
    'released': lambda: pytorch_step(options, best=False),
    'best': lambda: pytorch_step(options, best=True),
  }
  measured = measure({s: make[s]() for s in options.sides}, options.steps)
  rich.console.Console().print(_table(measured))
  if options.json:
    with open(options.json, 'a', encoding='utf-8') as file:
      file.write(json.dumps({'command': sys.argv, 'steps': measured}) + '\n')


if __name__ == '__main__':
  main()
