"""Effect of distilling step by step, measured on the packaged sample.

    python benchmarks/effect.py --out docs/effect

Trains with the shipped experiment, once for each method, number of labeled
rows and seed, and reports mean and standard deviation of the accuracy of labels
on the test split:

- `finetune`: labels alone, with as many label examples per step as the others
- `dss`: labels and the teacher's rationales
- `shuffled`: the same, but each row has the rationale of another row. What it
  gains over `finetune` comes from longer targets, not from their content

Each run is a process of its own, so the figures are those of the command line.
Finished runs are kept in OUT.jsonl and not repeated. About a minute per run and
core; needs the extra `[report]` for the picture.
"""

import argparse
import concurrent.futures
import glob
import json
import os
import queue
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from rich import progress

# Rows of the sample's training file, from which FRACTION is drawn.
_SAMPLE_ROWS = 1000
_ROWS = (200, 400, 800)
_SEEDS = {200: 3, 400: 5, 800: 3}
_VARIANTS = (
  ('finetune', None),
  ('dss', 0.5),
  ('dss', 0.2),
  ('shuffled', 0.5),
  ('shuffled', 0.2),
)

Run = dict[str, Any]


def planned(rows: Sequence[int], seeds: int | None) -> list[Run]:
  """Returns the runs, one seed of everything before the next seed."""
  runs = [
    {'variant': variant, 'alpha': alpha, 'rows': n, 'seed': seed}
    for n in rows
    for seed in range(seeds or _SEEDS[n])
    for variant, alpha in _VARIANTS
  ]
  return sorted(runs, key=lambda run: run['seed'])


def train(run: Run, cores: queue.Queue) -> float:
  """Trains one model; returns the label accuracy on the test split, in %.

  Args:
    run: what to train.
    cores: free cores, of which the run takes one: a model this small gains
      little from a second one, and runs that share cores slow each other down.
  """
  core = cores.get()
  try:
    return _train_on(core, run)
  finally:
    cores.put(core)


def _train_on(core: int, run: Run) -> float:
  with tempfile.TemporaryDirectory() as folder:
    macros = {
      'METHOD': 'finetune' if run['variant'] == 'finetune' else 'dss',
      'SHUFFLE_RATIONALES': run['variant'] == 'shuffled',
      'FRACTION': run['rows'] / _SAMPLE_ROWS,
      'RANDOM_SEED': run['seed'],
      'MODEL_DIR': os.path.join(folder, 'run'),
      'EVAL_PERIOD': 0,
      'SAVE_PERIOD': None,
      'EVAL_RATIONALES': False,
    }
    if run['alpha'] is not None:
      macros['ALPHA'] = run['alpha']
    command = [
      sys.executable,
      '-m',
      't5x.train',
      '--gin_file=gin/dss_cqa.gin',
      *(f'--gin.{name}={value!r}' for name, value in macros.items()),
    ]
    environment = dict(os.environ, JAX_PLATFORMS='cpu')
    environment.setdefault(
      'JAX_COMPILATION_CACHE_DIR',
      os.path.join(tempfile.gettempdir(), 'dss_effect_compilations'),
    )
    done = subprocess.run(
      command,
      env=environment,
      capture_output=True,
      text=True,
      preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    if done.returncode:
      raise RuntimeError(f'{command} failed:\n{done.stderr[-4000:]}')
    (metrics,) = glob.glob(
      os.path.join(folder, 'run', 'inference_eval', '*_test-metrics.jsonl')
    )
    with open(metrics, encoding='utf-8') as f:
      return json.loads(f.readlines()[-1])['accuracy']


def measure(runs: Sequence[Run], out: str, workers: int) -> list[Run]:
  """Trains the runs missing in OUT.jsonl; returns all finished runs."""
  path = f'{out}.jsonl'
  finished: list[Run] = []
  if os.path.exists(path):
    with open(path, encoding='utf-8') as f:
      finished = [json.loads(line) for line in f]
  keys = {_key(run) for run in finished}
  missing = [run for run in runs if _key(run) not in keys]
  cores = queue.Queue()
  for core in sorted(os.sched_getaffinity(0))[:workers]:
    cores.put(core)
  with (
    concurrent.futures.ThreadPoolExecutor(workers) as pool,
    open(path, 'a', encoding='utf-8') as f,
  ):
    futures = {pool.submit(train, run, cores): run for run in missing}
    for future in progress.track(
      concurrent.futures.as_completed(futures), total=len(futures)
    ):
      if future.exception() is not None:
        pool.shutdown(cancel_futures=True)
      result = futures[future] | {'accuracy': future.result()}
      finished.append(result)
      f.write(json.dumps(result) + '\n')
      f.flush()
  return [run for run in finished if _key(run) in {_key(r) for r in runs}]


def _key(run: Run) -> tuple[Any, ...]:
  return run['variant'], run['alpha'], run['rows'], run['seed']


def table(runs: Sequence[Run]) -> str:
  """Returns the figures as a Markdown table."""
  sizes = sorted({run['rows'] for run in runs})
  lines = [
    '| method | α | ' + ' | '.join(f'{n} rows' for n in sizes) + ' |',
    '|---|---|' + '---|' * len(sizes),
  ]
  for variant, alpha in _VARIANTS:
    cells = [_cell(_accuracies(runs, variant, alpha, n)) for n in sizes]
    lines.append(
      f'| {variant} | {alpha if alpha is not None else "—"} | '
      + ' | '.join(cells)
      + ' |'
    )
  return '\n'.join(lines)


def _accuracies(runs, variant, alpha, rows) -> list[float]:
  return [
    run['accuracy']
    for run in runs
    if (run['variant'], run['alpha'], run['rows']) == (variant, alpha, rows)
  ]


def _cell(values: Sequence[float]) -> str:
  if not values:
    return '—'
  spread = f' ± {statistics.stdev(values):.1f}' if len(values) > 1 else ''
  return f'{statistics.mean(values):.1f}{spread} ({len(values)})'


def draw(runs: Sequence[Run], path: str) -> None:
  """Draws the means with their standard deviations."""
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot as plt

  styles = {'finetune': '#666666', 'dss': '#1f77b4', 'shuffled': '#d62728'}
  figure, axes = plt.subplots(figsize=(6.4, 4), constrained_layout=True)
  for variant, alpha in _VARIANTS:
    points = [
      (n, values)
      for n in sorted({run['rows'] for run in runs})
      if (values := _accuracies(runs, variant, alpha, n))
    ]
    axes.errorbar(
      [n for n, _ in points],
      [statistics.mean(v) for _, v in points],
      [statistics.stdev(v) if len(v) > 1 else 0 for _, v in points],
      label=variant if alpha is None else f'{variant}, α = {alpha}',
      color=styles[variant],
      linestyle='--' if alpha == 0.5 else '-',
      marker='o',
      capsize=3,
    )
  axes.set_xscale('log', base=2)
  axes.set_xticks(_ROWS, [str(n) for n in _ROWS])
  axes.set_xlabel('labeled rows')
  axes.set_ylabel('label accuracy on test, %')
  axes.set_title('Packaged CQA sample, T5 1.1 tiny from scratch')
  axes.grid(alpha=0.3)
  axes.legend()
  figure.savefig(path, dpi=150)


def main() -> None:
  """Measures, prints the table and draws."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--out', default='docs/effect', help='stem of the files')
  parser.add_argument('--rows', type=int, nargs='+', default=list(_ROWS))
  parser.add_argument('--seeds', type=int, help='by default 3, 5 at 400 rows')
  parser.add_argument('--workers', type=int, default=os.cpu_count())
  options = parser.parse_args()
  runs = measure(
    planned(options.rows, options.seeds), options.out, options.workers
  )
  print(table(runs))
  draw(runs, f'{options.out}.png')


if __name__ == '__main__':
  main()
