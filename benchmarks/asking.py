"""`dss ask --file`: rows after kills, memory, and the rate beside `t5x.infer`.

    python -m benchmarks.asking runs/dss_cqa --rows 100000 --kills 2
    python -m benchmarks.asking runs/dss_cqa --rows 10000 --pairs 3

The first command asks a finished run of README about that many rows, kills the
process that many times, gives the command again, and checks that each row has
one answer, in order, and the one that its text has elsewhere; it prints the
resident memory at tenths of the way. The second one times whole processes of
`dss ask` and `t5x.infer` in turn, on the same rows, and compares all answers.
"""

import itertools
import json
import os
import pathlib
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

import click

from dss_jax import sample

_POLL_SECONDS = 0.2
_PARTS = 10


def _questions() -> list[str]:
  """Returns the questions of the packaged sample."""
  folder = pathlib.Path(sample.DATA_DIR) / 'cqa'
  found = []
  for name in ('cqa_train.json', 'cqa_test.json'):
    for line in (folder / name).read_text(encoding='utf-8').splitlines():
      row = json.loads(line)
      choices = (f'({chr(97 + i)}) {x}' for i, x in enumerate(row['choices']))
      found.append('\n'.join([row['question'], 'Answer Choices:', *choices]))
  return found


def _write_rows(path: pathlib.Path, count: int) -> list[str]:
  """Writes rows, and returns their inputs."""
  texts = list(itertools.islice(itertools.cycle(_questions()), count))
  with path.open('w', encoding='utf-8') as file:
    for number, text in enumerate(texts):
      file.write(json.dumps({'id': str(number), 'input': text}) + '\n')
  return texts


def _ask(run: str, rows: pathlib.Path, out: pathlib.Path) -> list[str]:
  command = ['-m', 'dss_jax.cli', 'ask', run]
  return [sys.executable, *command, '--file', str(rows), '--out', str(out)]


def _infer(run: str, rows: pathlib.Path, folder: pathlib.Path) -> list[str]:
  return [
    sys.executable, '-m', 't5x.infer', f'--gin_file={run}/config.gin',
    '--gin_file=gin/dss_infer.gin', f'--gin.INPUTS={str(rows)!r}',
    f'--gin.CHECKPOINT_PATH={run!r}', f'--gin.INFER_OUTPUT_DIR={str(folder)!r}',
  ]  # fmt: skip


def _memory(pid: int) -> float:
  """Returns a process's resident memory in MiB; 0 if it has ended."""
  try:
    text = pathlib.Path(f'/proc/{pid}/status').read_text()
  except OSError:
    return 0.0
  # A process that ends has none.
  lines = [x for x in text.splitlines() if x.startswith('VmRSS')]
  return int(lines[0].split()[1]) / 1024 if lines else 0.0


def _watched(
  command: Sequence[str], tmp: pathlib.Path, kill_at: int | None
) -> Iterator[tuple[int, float]]:
  """Runs a command; yields its chunks and memory whenever there are more.

  Args:
    command: of `dss ask`.
    tmp: where its chunks appear.
    kill_at: the number of chunks at which it is killed; None for never.
  """
  process = subprocess.Popen(command)
  before = -1
  while process.poll() is None:
    time.sleep(_POLL_SECONDS)
    count = len(list(tmp.glob('*-chunk*[0-9]'))) if tmp.exists() else 0
    if count > before > -1:
      yield count, _memory(process.pid)
    before = count
    if kill_at is not None and count >= kill_at:
      process.send_signal(signal.SIGKILL)
      process.wait()
      return
  if process.returncode:
    raise click.ClickException(f'dss ask ended with {process.returncode}.')


def _check(out: pathlib.Path, texts: Sequence[str]) -> None:
  """Raises unless each row has one answer, and equal texts the same one."""
  found = [json.loads(line) for line in out.read_text().splitlines()]
  if [row['id'] for row in found] != [str(n) for n in range(len(texts))]:
    raise click.ClickException('Rows are lost, doubled or in another order.')
  answers: dict[str, set[str]] = {}
  for row, text in zip(found, texts, strict=True):
    if row['input'] != text:
      raise click.ClickException(f'Row {row["id"]} has another input.')
    answers.setdefault(text, set()).add(row['predicted_label'])
  several = sum(len(labels) > 1 for labels in answers.values())
  print(
    f'{len(found):,} rows, each once and in order; of {len(answers):,} texts'
    f' {several} have several answers'
  )


def _kill(run: str, folder: pathlib.Path, count: int, kills: int) -> None:
  """Asks about rows with kills on the way, and checks what came out."""
  rows, out = folder / 'rows.jsonl', folder / 'answers.jsonl'
  texts = _write_rows(rows, count)
  tmp = folder / 'tmp-answers.jsonl'
  # 3,200 rows of a chunk, as with the default size.
  chunks = -(-count // 3200)
  stops: list[int | None] = [
    max(1, chunks * (n + 1) // (kills + 1)) for n in range(kills)
  ]
  for stop in [*stops, None]:
    seen: dict[int, float] = {}
    for done, memory in _watched(_ask(run, rows, out), tmp, stop):
      seen[done * _PARTS // chunks] = memory
    shown = ', '.join(f'{m:.0f}' for m in seen.values())
    end = 'to the end' if stop is None else f'killed after {stop} chunks'
    print(f'{end}: resident MiB at tenths of the way: {shown}')
  _check(out, texts)


def _timed(command: Sequence[str]) -> tuple[float, float]:
  """Returns the seconds and the CPU seconds of a process."""
  before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
  subprocess.run(command, check=True, capture_output=True)
  wall = time.monotonic() - start
  after = resource.getrusage(resource.RUSAGE_CHILDREN)
  used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
  return wall, used


def _pairs(run: str, folder: pathlib.Path, count: int, pairs: int) -> None:
  """Times both commands in turn, and compares their answers."""
  rows = folder / 'rows.jsonl'
  _write_rows(rows, count)
  few = folder / 'few.jsonl'
  _write_rows(few, 1)
  times: dict[str, list[tuple[float, float]]] = {}
  for number in range(pairs):
    for size, asked in (('all', rows), ('one', few)):
      out = folder / f'{size}{number}.jsonl'
      results = folder / f'{size}{number}'
      for name, command in (
        ('dss ask', _ask(run, asked, out)),
        ('t5x.infer', _infer(run, asked, results)),
      ):
        times.setdefault(f'{name}, {size}', []).append(_timed(command))
    ours = [
      json.loads(line)['predicted_label']
      for line in (folder / f'all{number}.jsonl').read_text().splitlines()
    ]
    (path,) = (folder / f'all{number}').glob('*-predict.jsonl-*')
    theirs = [
      json.loads(line)['prediction'].strip()
      for line in path.read_text().splitlines()
    ]
    different = sum(a != b for a, b in zip(ours, theirs, strict=True))
    print(f'pair {number}: {different} of {count:,} answers differ')
    shutil.rmtree(folder / f'all{number}')
  for unit, place in (('s', 0), ('CPU s', 1)):
    rates: dict[str, float] = {}
    for name in ('dss ask', 't5x.infer'):
      whole = statistics.median(x[place] for x in times[f'{name}, all'])
      start = statistics.median(x[place] for x in times[f'{name}, one'])
      rates[name] = count / max(whole - start, 1e-9)
      print(
        f'{name}: {whole:.1f} {unit}, of which {start:.1f} {unit} for one row;'
        f' {rates[name]:,.0f} rows a {unit.removesuffix("s")}second'
      )
    ours_by_theirs = rates['dss ask'] / rates['t5x.infer']
    print(f'  rate of dss ask / t5x.infer: {ours_by_theirs:.2f}')


@click.command()
@click.argument('run')
@click.option('--rows', default=20_000, help='Rows to ask about.')
@click.option('--kills', default=0, help='How often the process is killed.')
@click.option('--pairs', default=0, help='How often both commands are timed.')
def main(run: str, rows: int, kills: int, pairs: int) -> None:
  """Measures RUN, a finished run of gin/dss_cqa.gin."""
  run = os.path.abspath(run)
  with tempfile.TemporaryDirectory() as folder:
    if kills or not pairs:
      _kill(run, pathlib.Path(folder), rows, kills)
  with tempfile.TemporaryDirectory() as folder:
    if pairs:
      _pairs(run, pathlib.Path(folder), rows, pairs)


if __name__ == '__main__':
  main()
