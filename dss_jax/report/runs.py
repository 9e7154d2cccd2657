"""A run as its folder tells it, finished or not, and what the folder lacks."""

import dataclasses
import functools
import json
import os
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from dss_jax import errors
from dss_jax.pipeline import kinds as kinds_lib
from dss_jax.report import run_files
from dss_jax.training_data import record
from t5x.files import folder_lock

_AGREEMENT = re.compile('^agreement(?=$|_)')
_TOTAL = re.compile(r'(?:^|\.)train\.total_steps$')
# Any of these makes a folder that of a run.
_MARKS = ('config.gin', 'train', 'inference_eval', 'run.json')

_T = TypeVar('_T')
Rows = Mapping[int, Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Task:
  """An evaluated task.

  Attributes:
    name: of the task.
    split: 'validation', 'test', or '' where the name has neither.
    rows: its metrics by step.
    answers: the file of what the model answered at the last of these steps.
    shown: what it is called where its run is known: its split, if no other task
      is asked the same of that.
    of_teacher: whether its labels are the teacher's, for want of gold ones: its
      accuracy is an agreement with the teacher.
  """

  name: str
  split: str
  rows: Rows
  answers: pathlib.Path
  shown: str = ''
  of_teacher: bool = False

  @property
  def measure(self) -> str:
    """What its accuracy is called."""
    return 'agreement with the teacher' if self.of_teacher else 'accuracy'

  @property
  def step(self) -> int:
    """The last evaluated step."""
    return max(self.rows)

  @property
  def last(self) -> Mapping[str, Any]:
    """The metrics of that step."""
    return self.rows[self.step]

  @property
  def has_accuracy(self) -> bool:
    """Whether answers are right or wrong."""
    return 'accuracy' in self.last

  @property
  def is_rationale(self) -> bool:
    """Whether the method's rationales are what is asked for."""
    return bool(self.kind) and not self.has_accuracy

  @property
  def kind(self) -> int:
    """The number of its kind of rationales; 0 for labels."""
    return kinds_lib.of_task(self.name)


@dataclasses.dataclass(frozen=True)
class Run:
  """What a run has left so far.

  Attributes:
    folder: of the run.
    name: tells it from the other runs of a report.
    config: the text of its config.gin; '' without one.
    train: metrics of training by step.
    losses: metrics of the evaluated loss by task and step.
    tasks: those that were evaluated by their predictions.
    identity: what run.json says; empty without it.
    commands: that trained it, as `t5x.run.provenance` records them.
    data: what it trains on, if it has said so.
    parameters: of its model, if it has said so.
    running: whether a process writes into the folder.
    gaps: sentences on what is missing.
  """

  folder: pathlib.Path
  name: str
  config: str
  train: Rows
  losses: Mapping[str, Rows]
  tasks: Sequence[Task]
  identity: Mapping[str, Any]
  commands: Sequence[Mapping[str, Any]]
  data: record.TrainingData | None
  parameters: int | None
  running: bool
  gaps: Sequence[str]

  @functools.cached_property
  def bindings(self) -> Mapping[str, str]:
    """What its configuration binds, each value as gin writes it."""
    return run_files.bindings(self.config)

  def macro(self, name: str) -> str:
    """Returns the value of a macro without quotes, '' without it.

    Args:
      name: such as METHOD.
    """
    return self.bindings.get(name, '').strip('\'"')

  @property
  def method(self) -> str:
    """METHOD; '' for another model than the method's."""
    return self.macro('METHOD')

  @property
  def total_steps(self) -> int | None:
    """The step at which the run ends, where its configuration says so."""
    texts = [self.macro('TRAIN_STEPS')]
    texts += [v for n, v in self.bindings.items() if _TOTAL.search(n)]
    return next((int(text) for text in texts if text.isdecimal()), None)

  @property
  def step(self) -> int:
    """The last step that the run tells of; 0 before the first."""
    evaluated = [task.step for task in self.tasks]
    return max([*self.train, *evaluated], default=0)

  @property
  def is_done(self) -> bool:
    """Whether the last step is the run's end."""
    return self.total_steps is not None and self.step >= self.total_steps

  @property
  def seconds(self) -> float:
    """How long its training steps took, without evaluation."""
    return sum(_number(r.get('timing/seconds')) for r in self.train.values())

  def label_tasks(self) -> list[Task]:
    """Returns the tasks whose answers are right or wrong, test last."""
    found = [task for task in self.tasks if task.has_accuracy]
    return sorted(found, key=lambda task: (task.split == 'test', task.name))

  @functools.cached_property
  def kinds(self) -> Sequence[kinds_lib.Kind]:
    """The kinds of rationales that it learns, as far as it says."""
    return kinds_lib.of_config(self.bindings)

  def kind_of(self, task: Task) -> str:
    """Returns what a task's rationales are called.

    Args:
      task: one that asks for rationales.
    """
    if len(self.kinds) < 2 or task.kind > len(self.kinds):
      return 'rationales'
    return f'rationales ({self.kinds[task.kind - 1].name})'

  def rationale_tasks(self, split: str) -> list[Task]:
    """Returns the tasks that ask for the rationales of a split, by kind.

    Args:
      split: of the label task.
    """
    of_split = [t for t in self.tasks if t.is_rationale and t.split == split]
    return sorted(of_split, key=lambda task: task.kind)


def _number(value: Any) -> float:
  return float(value) if isinstance(value, int | float) else 0.0


class _Gaps:
  """Collects what is missing or can't be read."""

  def __init__(self) -> None:
    self.found: list[str] = []

  def read(self, function: Callable[[], _T], otherwise: _T) -> _T:
    """Returns what a function reads; what can't be read is a gap."""
    try:
      return function()
    except errors.DataError as error:
      self.found.append(f'Left out: {error}')
      return otherwise


def read(folders: Sequence[str | os.PathLike[str]]) -> list[Run]:
  """Reads runs.

  Args:
    folders: of the runs, each once.

  Raises:
    DataError: a folder is not there, is none of a run, or is given twice.
  """
  paths = [_checked(os.fspath(folder)) for folder in folders]
  resolved = [path.resolve() for path in paths]
  for path, real in zip(paths, resolved, strict=True):
    if resolved.count(real) > 1:
      raise errors.DataError(
        f'{path}: expected each run once, found this one twice.'
      )
  names = _names(resolved)
  return [_run(path, name) for path, name in zip(paths, names, strict=True)]


def _checked(folder: str) -> pathlib.Path:
  if '://' in folder:
    raise errors.DataError(
      f'{folder}: expected a folder of this machine. Copy the run without its'
      ' checkpoints (train/, training_eval/, inference_eval/ and the files'
      ' beside them), and give the copy.'
    )
  path = pathlib.Path(folder)
  if not path.is_dir():
    there = 'a file' if path.exists() else 'nothing there'
    raise errors.DataError(
      f'{folder}: expected the folder of a run (its MODEL_DIR), found {there}.'
      f'{_runs_near(path)}'
    )
  if not any((path / mark).exists() for mark in _MARKS):
    raise errors.DataError(
      f'{folder}: expected the folder of a run, with {", ".join(_MARKS[:-1])}'
      f' or {_MARKS[-1]}; found none of them.{_runs_near(path / "x")}'
    )
  return path


def _runs_near(path: pathlib.Path) -> str:
  """Returns a sentence that names runs beside a path."""
  near = sorted(path.parent.glob('*/config.gin'))[:6]
  if not near:
    return ''
  names = ', '.join(str(config.parent) for config in near)
  return f' Runs there: {names}.'


def _names(paths: Sequence[pathlib.Path]) -> list[str]:
  """Returns the shortest ends of paths that tell them apart."""
  for depth in range(1, max(len(path.parts) for path in paths) + 1):
    names = ['/'.join(path.parts[-depth:]) for path in paths]
    if len(set(names)) == len(names):
      return names
  raise AssertionError(paths)


def _run(folder: pathlib.Path, name: str) -> Run:
  gaps = _Gaps()
  nothing: Rows = {}
  config = _optional(gaps, folder / 'config.gin', run_files.read_text, '')
  train = gaps.read(
    lambda: _by_step(folder / 'train' / 'metrics.jsonl'), nothing
  )
  losses = {
    path.parent.name: gaps.read(functools.partial(_by_step, path), nothing)
    for path in sorted(folder.glob('training_eval/*/metrics.jsonl'))
  }
  run = Run(
    folder=folder,
    name=name,
    config=config,
    train=train,
    losses={task: rows for task, rows in losses.items() if rows},
    tasks=gaps.read(lambda: _tasks(folder), []),
    identity=_optional(gaps, folder / 'run.json', _json, {}),
    commands=_optional(
      gaps, folder / 'commands.jsonl', run_files.read_lines, []
    ),
    data=gaps.read(lambda: record.read(folder), None),
    parameters=_optional(
      gaps, folder / 'model-info.txt', run_files.parameters, None
    ),
    running=folder_lock.holder(str(folder)) is not None,
    gaps=gaps.found,
  )
  return dataclasses.replace(run, gaps=[*gaps.found, *_missing(run)])


def _optional(
  gaps: _Gaps,
  path: pathlib.Path,
  reader: Callable[[pathlib.Path], _T],
  otherwise: _T,
) -> _T:
  if not path.exists():
    return otherwise
  return gaps.read(lambda: reader(path), otherwise)


def _json(path: pathlib.Path) -> Mapping[str, Any]:
  try:
    found = json.loads(run_files.read_text(path))
  except (ValueError, RecursionError) as error:
    raise errors.DataError(
      f'{path}: expected a JSON object ({error}).'
    ) from error
  return found if isinstance(found, dict) else {}


def _by_step(path: pathlib.Path) -> Rows:
  """Returns metrics by step; what a resumed run wrote again counts."""
  if not path.exists():
    return {}
  found: dict[int, dict[str, Any]] = {}
  for row in run_files.read_lines(path):
    step = row.get('step')
    if isinstance(step, int):
      # Step 0 has the time to compile alone.
      found[step] = found.get(step, {}) | row
  return {step: found[step] for step in sorted(found) if len(found[step]) > 1}


def _tasks(folder: pathlib.Path) -> list[Task]:
  found = []
  for path in sorted((folder / 'inference_eval').glob(f'*{run_files.METRICS}')):
    name = path.name.removesuffix(run_files.METRICS)
    rows = _by_step(path)
    if not rows:
      continue
    of_teacher = 'agreement' in rows[max(rows)]
    if of_teacher:
      rows = {step: _renamed(row) for step, row in rows.items()}
    answers = path.with_name(f'{name}-{max(rows):06}.jsonl')
    split = run_files.split_of(name)
    found.append(Task(name, split, rows, answers, of_teacher=of_teacher))
  kinds = [(t.split, t.is_rationale and t.kind) for t in found]
  return [
    dataclasses.replace(
      task,
      shown=task.split if task.split and kinds.count(kind) == 1 else task.name,
    )
    for task, kind in zip(found, kinds, strict=True)
  ]


def _renamed(row: Mapping[str, Any]) -> dict[str, Any]:
  """Gives an agreement the names of an accuracy; see `metrics.agreement`."""
  return {_AGREEMENT.sub('accuracy', key): value for key, value in row.items()}


def _missing(run: Run) -> list[str]:
  """Returns sentences on files that are not there."""
  found = []
  if not run.config:
    found.append('No config.gin: its configuration is not known.')
  if not any(step for step in run.train):
    period = run.macro('STATS_PERIOD') or run.macro('EVAL_PERIOD')
    due = f'; the first are due at step {period}' if period.isdecimal() else ''
    found.append(f'No metrics of training yet (train/metrics.jsonl){due}.')
  if not run.tasks:
    period = run.macro('EVAL_PERIOD')
    due = f'; the first is due at step {period}' if period.isdecimal() else ''
    found.append(f'No evaluation of predictions yet{due}.')
  labels = run.label_tasks()
  for task in labels:
    if not task.answers.exists():
      found.append(
        f'No {task.answers.name}: the answers to {task.shown} are not shown.'
      )
  explained = any(task.is_rationale for task in run.tasks)
  if labels and run.method == 'dss' and not explained:
    found.append(
      'Rationales were not evaluated (EVAL_RATIONALES = False): none are'
      ' shown beside the answers.'
    )
  if run.data is None and run.tasks and run.method:
    found.append(
      f'No {record.FILE}, which newer runs write: what was cut or left'
      ' out is not known. The command dss data inspect counts it.'
    )
  if not run.commands:
    found.append(
      'No commands.jsonl, which newer runs write: command, versions and devices'
      ' are not known.'
    )
  return found
