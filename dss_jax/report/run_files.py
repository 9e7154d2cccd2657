"""Files of a run's folder, as `t5x.train` leaves them, read as data.

Nothing of them is executed, `config.gin` neither. A last line without an end is
what a kill has left, and is passed over.
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dss_jax import errors
from dss_jax.pipeline import kinds

SPLITS = ('validation', 'test')
METRICS = '-metrics.jsonl'
# The last one in a task's name: a teacher may be called `test`, too.
_SPLIT = re.compile(r'_(validation|test)(?=_|$)')
_PARAMETERS = re.compile(r'^Parameters: ([\d,]+)$', re.MULTILINE)
_MACRO = re.compile('[A-Z][A-Z0-9_]*')


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """Accuracies after one step.

  Attributes:
    step: the step.
    accuracy: percent by split: 'validation', 'test'.
    interval: ends of its 95% interval over questions, likewise.
  """

  step: int
  accuracy: Mapping[str, float]
  interval: Mapping[str, Sequence[float]]


def evaluations(run_dir: pathlib.Path) -> list[Evaluation]:
  """Returns the accuracies of labels at each evaluated step, in order.

  Args:
    run_dir: the MODEL_DIR of a run, which need not be finished.

  Raises:
    DataError: a line can't be read.
  """
  by_step: dict[int, Evaluation] = {}
  for split, path in _metric_files(run_dir, 'accuracy').items():
    for row in read_lines(path):
      step = row['step']
      found = by_step.setdefault(step, Evaluation(step, {}, {}))
      ends = [row[f'accuracy_{end}'] for end in ('low', 'high')]
      # A step that was evaluated again after a kill: the later line counts.
      by_step[step] = Evaluation(
        step,
        {**found.accuracy, split: row['accuracy']},
        {**found.interval, split: ends},
      )
  return [by_step[step] for step in sorted(by_step)]


def split_of(task: str) -> str:
  """Returns the split that a task's name ends in; '' for none.

  Args:
    task: its name.
  """
  named = _SPLIT.findall(task)
  return named[-1] if named else ''


def answer_files(
  run_dir: pathlib.Path, metric: str, step: int
) -> dict[str, pathlib.Path]:
  """Returns the files of what a model answered, by split.

  Args:
    run_dir: the MODEL_DIR of a run.
    metric: 'accuracy' for labels, 'bleu' for rationales.
    step: which evaluation.
  """
  return {
    split: path.with_name(f'{path.name.removesuffix(METRICS)}-{step:06}.jsonl')
    for split, path in _metric_files(run_dir, metric).items()
  }


def rationale_files(
  run_dir: pathlib.Path, split: str, step: int
) -> dict[int, pathlib.Path]:
  """Returns the files of a model's rationales, by the number of their kind.

  Args:
    run_dir: the MODEL_DIR of a run.
    split: of the rows.
    step: which evaluation.
  """
  found = {}
  for path in sorted((run_dir / 'inference_eval').glob(f'*{METRICS}')):
    task = path.name.removesuffix(METRICS)
    if kinds.of_task(task) and split_of(task) == split:
      found[kinds.of_task(task)] = path.with_name(f'{task}-{step:06}.jsonl')
  return found


def _metric_files(
  run_dir: pathlib.Path, metric: str
) -> dict[str, pathlib.Path]:
  """Returns the files of tasks that are measured by a metric, by split."""
  found = {}
  for path in sorted((run_dir / 'inference_eval').glob(f'*{METRICS}')):
    split = split_of(path.name.removesuffix(METRICS))
    first = next(iter(read_lines(path)), {})
    # Labels that are sentences have the metrics of rationales, too.
    if metric != 'accuracy' and {'accuracy', 'agreement'} & set(first):
      continue
    if split and metric in first:
      found[split] = path
  return dict(sorted(found.items(), key=lambda item: SPLITS.index(item[0])))


def read_lines(path: pathlib.Path) -> list[dict[str, Any]]:
  """Returns the objects of a file of JSON lines.

  Args:
    path: the file. A last line without an end is what a kill has left of it,
      and is passed over.

  Raises:
    DataError: another line is no JSON object, or the file can't be read.
  """
  rows = []
  for number, line in enumerate(read_text(path).split('\n')[:-1], 1):
    try:
      row = json.loads(line)
      if not isinstance(row, dict):
        raise ValueError('no object')
    except ValueError as error:
      raise errors.DataError(
        f'{path}, line {number}: expected a JSON object, found'
        f' {line[:60]!r} ({error}).'
      ) from error
    rows.append(row)
  return rows


def read_text(path: pathlib.Path) -> str:
  """Returns the text of a file.

  Args:
    path: the file.

  Raises:
    DataError: it can't be read.
  """
  try:
    return path.read_text(encoding='utf-8')
  except (OSError, UnicodeDecodeError) as error:
    raise errors.DataError(f'{path}: cannot be read ({error}).') from error


def count_lines(path: pathlib.Path) -> int:
  """Returns the number of lines of a file.

  Args:
    path: the file.
  """
  with path.open('rb') as f:
    return sum(1 for _ in f)


def bindings(config: str) -> dict[str, str]:
  """Returns the macros and bindings of a gin file, each value as it is written.

  Args:
    config: its text. A long value goes on in lines that are indented.
  """
  found: dict[str, str] = {}
  name = ''
  for line in config.split('\n'):
    if line.startswith((' ', '\t')) and name:
      found[name] = f'{found[name]} {line.strip()}'.strip()
    elif ' = ' in line and not line.startswith('#'):
      name, _, value = line.partition(' = ')
      found[name] = value.strip(' \\')
    else:
      name = ''
  return found


def macros(config: pathlib.Path) -> dict[str, str]:
  """Returns the macros of a run's `config.gin`, each value as gin writes it.

  Args:
    config: the file.

  Raises:
    DataError: it can't be read.
  """
  return {
    name: value
    for name, value in bindings(read_text(config)).items()
    if is_macro(name)
  }


def is_macro(name: str) -> bool:
  """Whether a name that a gin file binds is one of our macros.

  Args:
    name: such as ALPHA or `train.total_steps`.
  """
  return _MACRO.fullmatch(name) is not None


def parameters(model_info: pathlib.Path) -> int:
  """Returns the number of parameters that a run's `model-info.txt` states.

  Args:
    model_info: the file.

  Raises:
    DataError: it can't be read, or states none.
  """
  found = _PARAMETERS.search(read_text(model_info))
  if not found:
    raise errors.DataError(
      f"{model_info}: expected a line such as 'Parameters: 345,088', found"
      ' none.'
    )
  return int(found.group(1).replace(',', ''))
