"""Answers of several runs, read once, and which of them are right."""

import dataclasses
from collections.abc import Sequence

from dss_jax import errors
from dss_jax.pipeline import methods
from dss_jax.report import predictions, runs

# Of the metric that the run itself wrote, in percentage points.
_TOLERANCE = 1e-6


@dataclasses.dataclass(frozen=True)
class Answered:
  """What a run answered to a task.

  Attributes:
    answers: in the order of the examples.
    judged: whether it is known which of them are right.
  """

  answers: Sequence[predictions.Answer]
  judged: bool


class Answers:
  """The answers of runs at their last evaluation.

  Attributes:
    gaps: sentences on what can't be shown, by run.
  """

  def __init__(self, found: Sequence[runs.Run]):
    """Reads the predictions of the runs' label tasks.

    Args:
      found: the runs.
    """
    self.gaps: dict[str, list[str]] = {run.name: [] for run in found}
    self._read: dict[tuple[str, str], Answered] = {}
    for run in found:
      for task in run.label_tasks():
        if task.answers.exists():
          try:
            self._read[run.name, task.name] = self._answered(run, task)
          except errors.DataError as error:
            self.gaps[run.name].append(f'Left out: {error}')

  def of(self, run: runs.Run, task: runs.Task) -> Answered | None:
    """Returns what a run answered to a task; None if that is not there.

    Args:
      run: one of the runs.
      task: one of its label tasks.
    """
    return self._read.get((run.name, task.name))

  def count(self, run: runs.Run, task: runs.Task) -> int | None:
    """Returns how many examples a task has, if that is known.

    Args:
      run: one of the runs.
      task: one of its label tasks.
    """
    found = self.of(run, task)
    return None if found is None else len(found.answers)

  def _answered(self, run: runs.Run, task: runs.Task) -> Answered:
    """Judges as the run's own metric does: by text, or as equations."""
    several = len(run.kinds) > 1
    paths = []
    for found in run.rationale_tasks(task.split):
      path = found.answers
      if found.step != task.step:
        path = path.with_name(f'{found.name}-{task.step:06}.jsonl')
      kind = run.kinds[found.kind - 1] if found.kind <= len(run.kinds) else None
      paths.append(
        predictions.Rationales(
          path,
          kind.prefix if kind else methods.RATIONALE_PREFIX,
          kind.name if kind and several else '',
        )
      )
    measured = float(task.last['accuracy'])
    shares = []
    for rule in (predictions.is_same, predictions.is_same_value):
      given = list(predictions.read(task.answers, paths, run.method, rule))
      shares.append(100 * sum(a.correct for a in given) / max(len(given), 1))
      if abs(shares[-1] - measured) <= _TOLERANCE:
        return Answered(given, True)
    self.gaps[run.name].append(
      f'{task.answers.name}: the run measured {measured:.4g} at step'
      f' {task.step}, and of {len(given)} answers {shares[0]:.4g}% are the gold'
      ' text. Another rule has judged them, so none is called right or wrong.'
    )
    return Answered(given, False)
