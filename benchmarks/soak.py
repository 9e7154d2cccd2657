r"""Soak test: resources of a process that trains, evaluates and saves for long.

    JAX_PLATFORMS=cpu python benchmarks/soak.py --minutes=60 --folder=/tmp/soak

The run is `python -m t5x.train` on the packaged sample with the tiny model, in
a process of its own, with a checkpoint every 100 steps and an evaluation every
200, which is every few seconds. This program reads the memory (RSS), threads
and open files of that process from /proc every ten seconds. Linux only. It
prints one line per reading and, at the end, the growth from the second ten
minutes to the last ten (or of sixths, if the run is shorter than an hour): of
the median memory, which may grow by 5%, and of the minimum of threads and of
files, which may not grow. (A save or an evaluation in progress has some of its
own, so that single readings go up and down.)
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import time

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_MAX_GROWTH = 0.05


def main() -> int:
  """Runs the soak; returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--minutes', type=float, default=60)
  parser.add_argument('--folder', default='runs/soak')
  parser.add_argument('--every', type=float, default=10, help='seconds')
  options = parser.parse_args()
  run = pathlib.Path(options.folder)
  shutil.rmtree(run, ignore_errors=True)
  run.parent.mkdir(parents=True, exist_ok=True)
  with open(f'{run}.log', 'w', encoding='utf-8') as log:
    process = subprocess.Popen(
      _command(run), cwd=_ROOT, stdout=log, stderr=subprocess.STDOUT
    )
  try:
    _wait_for(run / 'evaluated_step', process)
    readings = _readings(process, run, options.minutes, options.every)
  finally:
    process.send_signal(signal.SIGTERM)
    process.wait()
  return _report(readings, process.returncode)


def _command(run: pathlib.Path) -> list[str]:
  macros = {
    'MODEL_DIR': str(run.absolute()),
    'TRAIN_STEPS': 10_000_000,
    'EVAL_PERIOD': 200,
    'SAVE_PERIOD': 100,
    'STATS_PERIOD': 5,
    'EVAL_NUM_EXAMPLES': 8,
  }
  return [
    sys.executable,
    '-m',
    't5x.train',
    '--gin_file=gin/dss_cqa.gin',
    *(f'--gin.{name}={value!r}' for name, value in macros.items()),
  ]


def _wait_for(file: pathlib.Path, process: subprocess.Popen) -> None:
  """Waits until everything is compiled."""
  while not file.exists():
    if process.poll() is not None:
      raise SystemExit(f'The run ended with {process.returncode}; see its log.')
    time.sleep(1)


def _readings(process, run, minutes, every) -> list[dict[str, int]]:
  readings, start = [], time.monotonic()
  while time.monotonic() - start < minutes * 60:
    if process.poll() is not None:
      raise SystemExit(f'The run ended with {process.returncode}; see its log.')
    reading = _read(process.pid)
    reading['evaluated'] = int((run / 'evaluated_step').read_text())
    reading['minutes'] = round((time.monotonic() - start) / 60, 1)
    print(json.dumps(reading), flush=True)
    readings.append(reading)
    time.sleep(every)
  return readings


def _read(pid: int) -> dict[str, int]:
  """Memory in KiB, threads and open files of a process."""
  status = pathlib.Path(f'/proc/{pid}/status').read_text()
  fields = dict(
    line.split(':\t', 1) for line in status.splitlines() if ':\t' in line
  )
  return {
    'rss_kib': int(fields['VmRSS'].split()[0]),
    'threads': int(fields['Threads']),
    'files': len(os.listdir(f'/proc/{pid}/fd')),
  }


def _report(readings: list[dict[str, int]], code: int) -> int:
  total = readings[-1]['minutes']
  window = min(10, total / 6)
  first = [r for r in readings if window <= r['minutes'] < 2 * window]
  last = [r for r in readings if r['minutes'] > total - window]
  failed = code != 143
  print(f'{total} minutes; the run ended with {code} (143 is expected).')
  for name, level, allowed in (
    ('rss_kib', statistics.median, _MAX_GROWTH),
    ('threads', min, 0),
    ('files', min, 0),
  ):
    before, after = (level(r[name] for r in part) for part in (first, last))
    growth = after / before - 1
    failed |= growth > allowed
    print(f'{name}: {before:.0f} to {after:.0f}, {growth:+.2%}')
  return int(failed)


if __name__ == '__main__':
  sys.exit(main())
