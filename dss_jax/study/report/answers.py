"""What each run has answered: `predictions/<run>.jsonl`, one line a question.

The lines are in the order of the test questions, which is the same for every
run of a data set, so that runs can be compared question by question.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Sequence

import numpy as np

from dss_jax import errors
from dss_jax.pipeline import kinds as kinds_lib
from dss_jax.report import predictions, run_files
from dss_jax.study import results
from t5x import files

SPLIT = 'test'
# Of the metric that the run itself wrote, in percentage points.
_TOLERANCE = 1e-6


def prepare(out_dir: pathlib.Path, result: results.RunResult) -> bool:
  """Writes a run's predictions, unless they are there.

  Args:
    out_dir: the study's folder.
    result: of the run.

  Returns:
    Whether they are there now: the run's folder may be gone.

  Raises:
    DataError: the run's files can't be read, or they give another accuracy
      than the run has measured.
  """
  target = out_dir / result.predictions
  run_dir = out_dir / results.RUNS / result.spec.name
  sources = run_files.answer_files(run_dir, 'accuracy', result.last.step)
  source = sources.get(SPLIT)
  if source is None or not source.exists():
    return target.exists()
  newer = source.stat().st_mtime_ns
  if target.exists() and target.stat().st_mtime_ns >= newer:
    return True
  found = list(
    predictions.read(
      source,
      _rationales(run_dir, result),
      result.settings.get('METHOD', '').strip('\'"'),
      predictions.is_same_value
      if result.spec.by_value
      else predictions.is_same,
    )
  )
  _check(source, found, result)
  target.parent.mkdir(exist_ok=True)
  with files.replacing(target) as work, work.open('w') as f:
    for answer in found:
      f.write(json.dumps(dataclasses.asdict(answer)) + '\n')
  return True


def _rationales(
  run_dir: pathlib.Path, result: results.RunResult
) -> list[predictions.Rationales]:
  """Returns the files of what a run answered for rationales, by kind."""
  known = kinds_lib.of_config(result.settings)
  several = len(known) > 1
  files_of = run_files.rationale_files(run_dir, SPLIT, result.last.step)
  return [
    predictions.Rationales(
      files_of[kind.number], kind.prefix, kind.name if several else ''
    )
    for kind in known
    if kind.number in files_of
  ]


def _check(
  source: pathlib.Path,
  found: list[predictions.Answer],
  result: results.RunResult,
) -> None:
  """Raises a DataError unless answers have the accuracy that was measured."""
  ours = 100 * sum(a.correct for a in found) / max(len(found), 1)
  measured = result.last.accuracy.get(SPLIT)
  if measured is None or abs(ours - measured) > _TOLERANCE:
    raise errors.DataError(
      f'{source}: expected the accuracy that the run has measured at step'
      f' {result.last.step}, {measured}%, found {ours}% of {len(found)}'
      f' answers. Remove the folder of the run {result.spec.name} and its line'
      f' in {results.NAME}, and run the study again.'
    )


def read(
  out_dir: pathlib.Path, result: results.RunResult
) -> list[predictions.Answer]:
  """Returns the answers in a run's file of predictions.

  Args:
    out_dir: the study's folder.
    result: of the run.

  Raises:
    DataError: the file can't be read.
  """
  path = out_dir / result.predictions
  try:
    return [predictions.Answer(**row) for row in run_files.read_lines(path)]
  except TypeError as error:
    raise errors.DataError(
      f'{path}: expected answers of a run ({error}). Remove the file, and the'
      ' report writes it again.'
    ) from error


class Marks:
  """Which questions each run has right, read once for each run."""

  def __init__(self, out_dir: pathlib.Path):
    """Reads nothing yet.

    Args:
      out_dir: the study's folder.
    """
    self.out_dir = out_dir
    self._read: dict[str, tuple[str, np.ndarray]] = {}

  def there(self, run: results.RunResult) -> bool:
    """Whether a run's predictions are there."""
    return (self.out_dir / run.predictions).exists()

  def of(self, runs: Sequence[results.RunResult]) -> np.ndarray:
    """Returns whether each run has each question right, [runs, questions].

    Args:
      runs: at least one, of the same questions.

    Raises:
      DataError: they have answered different questions.
    """
    found = [self._of(run) for run in runs]
    for run, (questions, _) in zip(runs, found, strict=True):
      if questions != found[0][0]:
        raise self._different(runs[0], run)
    return np.stack([right for _, right in found])

  def _of(self, run: results.RunResult) -> tuple[str, np.ndarray]:
    """Returns a digest of the questions, and which are right."""
    if run.spec.name not in self._read:
      digest, right = hashlib.sha256(), []
      for answer in read(self.out_dir, run):
        digest.update(json.dumps(_asked(answer)).encode())
        right.append(answer.correct)
      self._read[run.spec.name] = digest.hexdigest(), np.array(right, bool)
    return self._read[run.spec.name]

  def _different(
    self, first: results.RunResult, other: results.RunResult
  ) -> errors.DataError:
    expected, found = (
      [_asked(answer) for answer in read(self.out_dir, run)]
      for run in (first, other)
    )
    return errors.DataError(
      f'{self.out_dir / other.predictions}: expected the questions of'
      f' {first.predictions}, {_where(expected, found)}. Runs can be compared'
      ' on the same questions only: use one study for each state of the data.'
    )


def _asked(answer: predictions.Answer) -> tuple[str, str, str]:
  return answer.id, answer.question, answer.gold


def _where(expected: list, found: list) -> str:
  if len(expected) != len(found):
    return f'{len(expected)} of them, found {len(found)}'
  pairs = enumerate(zip(expected, found, strict=True), 1)
  number, (left, right) = next((n, p) for n, p in pairs if p[0] != p[1])
  return f'found {right} instead of {left} in line {number}'
