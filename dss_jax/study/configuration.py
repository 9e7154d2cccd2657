"""Configurations of a study's runs: resolved, counted and compared.

What a run's gin files and flags come to is found out by a process of its own,
`python -m dss_jax.study.configuration`, so that the driver neither loads JAX
and TensorFlow nor holds their memory. The process also prepares the data, so
that no two runs do.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from dss_jax import errors

_MODULE = 'dss_jax.study.configuration'
# Lines of a failed process that are shown.
_SHOWN_LINES = 15


@dataclasses.dataclass(frozen=True)
class Command:
  """What a run is started with, except for its folder.

  Attributes:
    name: of the run.
    gin_files: of the run, later ones win.
    bindings: by name, each value as gin reads it.
  """

  name: str
  gin_files: tuple[str, ...]
  bindings: Mapping[str, str]

  def flags(self, model_dir: str) -> list[str]:
    """Returns the arguments of `python -m t5x.train`.

    Args:
      model_dir: the run's folder.
    """
    bindings = dict(self.bindings) | {'MODEL_DIR': repr(model_dir)}
    return [
      *(f'--gin_file={path}' for path in self.gin_files),
      *(f'--gin.{name}={value}' for name, value in bindings.items()),
    ]


@dataclasses.dataclass(frozen=True)
class Configuration:
  """What a run's command comes to.

  Attributes:
    name: of the run.
    text: the whole configuration, as the run writes it to its `config.gin`.
    mixture: the name of what it trains on, which tells data apart.
    data_set: 'cqa', …, 'custom'.
    data: 'sample', 'release' or a path.
    labels: 'gold' or 'teacher'.
    teacher: whose outputs are used; None where none are.
    alpha: weight of the label loss; None where there is no other loss.
    fraction: the part of the train rows.
    seed: of the run.
    steps: TRAIN_STEPS.
    eval_period: EVAL_PERIOD.
    batch_rows: BATCH_SIZE, where steps are counted in rows.
    label_examples: LABELS_PER_STEP, where they are counted in label examples.
    train_rows: rows with something to learn for the label task.
    teacher_accuracy: of the teacher, by released split, in percent.
    by_value: whether labels are equations, compared by their value.
    kinds: of rationales, such as 'thought+program'; '' where they have no names
      or none are learned.
  """

  name: str
  text: str
  mixture: str
  data_set: str
  data: str
  labels: str
  teacher: str | None
  alpha: float | None
  fraction: float
  seed: int
  steps: int
  eval_period: int
  batch_rows: int | None
  label_examples: int | None
  train_rows: int
  teacher_accuracy: Mapping[str, float]
  by_value: bool
  kinds: str = ''


def resolve(commands: Sequence[Command]) -> list[Configuration]:
  """Returns what commands come to, in their order.

  Args:
    commands: of the runs.

  Raises:
    DataError: one of them is refused; the message names it.
  """
  with tempfile.TemporaryDirectory(prefix='dss-study-') as folder:
    asked, answer = pathlib.Path(folder, 'asked'), pathlib.Path(folder, 'found')
    asked.write_text(json.dumps([dataclasses.asdict(c) for c in commands]))
    done = subprocess.run(
      [sys.executable, '-m', _MODULE, str(asked), str(answer)],
      # Nothing is computed, so accelerators stay free.
      env=os.environ | {'JAX_PLATFORMS': 'cpu'},
      stdin=subprocess.DEVNULL,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
      errors='replace',
    )
    if not answer.exists():
      lines = done.stderr.strip().splitlines()[-_SHOWN_LINES:]
      raise RuntimeError(
        '\n'.join([f'{_MODULE} ended with {done.returncode}:', *lines])
      )
    found = json.loads(answer.read_text())
  if 'error' in found:
    raise errors.DataError(found['error'])
  return [Configuration(**one) for one in found['configurations']]


def _resolve_here(commands: Sequence[Command]) -> list[Configuration]:
  """As `resolve`, in this process."""
  resolver = _Resolver()
  found = []
  for command in commands:
    try:
      found.append(resolver.resolve(command))
    except Exception as error:
      if not isinstance(getattr(error, 'exit_code', None), int):
        raise
      # What a mistake is called after: one run of those that have it.
      raise errors.DataError(f'The run {command.name}: {error}') from error
  return found


class _Resolver:
  """Resolves commands one after the other, reading data sets once."""

  def __init__(self) -> None:
    self._described: dict[Any, Any] = {}

  def resolve(self, command: Command) -> Configuration:
    """Returns what a command comes to."""
    import gin
    from dss_jax import mixtures, run_config
    from dss_jax.data import own_rows
    from dss_jax.pipeline import experiment as experiment_lib
    from dss_jax.pipeline.scoring import grading
    from t5x import data

    bindings = [
      *(f'{name} = {v}' for name, v in command.bindings.items()),
      "MODEL_DIR = ''",  # Some leave it open.
    ]
    with run_config.configured(command.gin_files, bindings):
      macro, macro_or = run_config.macro, run_config.macro_or
      experiment = macro('EXPERIMENT')
      if not isinstance(experiment, experiment_lib.Experiment):
        raise errors.DataError(
          f'the macro EXPERIMENT is {experiment!r}: expected that of'
          ' gin/dss.gin. Give an experiment of this method.'
        )
      if grading.columns(experiment)['test'] != 'label':
        raise errors.DataError(
          f'{experiment.place}: expected test rows with gold labels, by which a'
          ' study compares methods, found none. Give a file that has them,'
          ' such as --set TEST=gold.csv.'
        )
      macro('SCHEDULE')  # Checks steps and warm-up.
      vocabulary = experiment.used_vocabulary
      data.check_vocabulary(vocabulary, None, 'The vocabulary')
      description = self._describe(experiment)
      labels = macro_or('LABELS_PER_STEP', None)
      compared = set(description.reports)
      if isinstance(experiment.rows, own_rows.OwnData):
        filled = own_rows.filled(experiment.rows)
        compared = {
          s for s in filled if {'label', 'teacher_label'} <= filled[s]
        }
      accuracies = {
        split: 100 * report.teacher_accuracy
        for split, report in description.reports.items()
        if description.rationale_reports and split in compared
      }
      return Configuration(
        name=command.name,
        text=gin.config_str(),
        mixture=mixtures.train_name(experiment),
        data_set=experiment.data_set,
        data=str(experiment.place),
        labels=experiment.labels,
        teacher=experiment.used_teacher,
        alpha=macro('ALPHA') if experiment.method == 'dss' else None,
        fraction=experiment.fraction,
        seed=experiment.draw_seed,
        steps=macro('TRAIN_STEPS'),
        eval_period=macro('EVAL_PERIOD'),
        batch_rows=macro_or('BATCH_SIZE', None) if labels is None else None,
        label_examples=labels,
        train_rows=_label_rows(description),
        teacher_accuracy=accuracies,
        by_value=experiment.by_value,
        kinds='+'.join(kind.name for kind in experiment.kinds)
        if experiment.uses_rationales
        else '',
      )

  def _describe(self, experiment: Any) -> Any:
    from dss_jax import mixtures

    # Equal experiments may have vocabularies that are different objects.
    key = dataclasses.replace(experiment, vocabulary=None)
    if key not in self._described:
      self._described[key] = mixtures.describe(experiment)
    return self._described[key]


def _label_rows(description: Any) -> int:
  """Returns how many train rows the label task trains on."""
  # The first task is that of labels, or the one that has both.
  left_out = next(iter(description.left_out.values()))
  return description.rows['train'] - left_out.get('train', 0)


def main(asked: str, answer: str) -> None:
  """Answers in a file, which is there only when it is whole.

  Args:
    asked: file with the commands.
    answer: file to write.
  """
  from t5x.cli import quiet_tensorflow

  quiet_tensorflow.load()
  commands = [
    Command(c['name'], tuple(c['gin_files']), c['bindings'])
    for c in json.loads(pathlib.Path(asked).read_text())
  ]
  try:
    found: dict[str, Any] = {
      'configurations': [
        dataclasses.asdict(one) for one in _resolve_here(commands)
      ]
    }
  except errors.DataError as error:
    found = {'error': str(error)}
  pathlib.Path(answer).write_text(json.dumps(found))


if __name__ == '__main__':
  main(*sys.argv[1:])
