"""What each run has answered: `predictions/<run>.jsonl`, one line a question.

The lines are in the order of the test questions, which is the same for every
run of a data set, so that runs can be compared question by question.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dss_jax import errors
from dss_jax.data import equations
from dss_jax.pipeline import methods
from dss_jax.study import results
from t5x import files

SPLIT = 'test'
# Of the metric that the run itself wrote, in percentage points.
_TOLERANCE = 1e-6


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
  """A run's answer to a question.

  Attributes:
    id: of the question, in the data.
    question: what the model read, without the prefix of a task.
    gold: the label.
    prediction: the model's label.
    correct: whether it counts as the gold label.
    rationale: the model's own; None if it was not asked for one.
    teacher_rationale: the teacher's; None if the run was not measured by it.
  """

  id: str
  question: str
  gold: str
  prediction: str
  correct: bool
  rationale: str | None = None
  teacher_rationale: str | None = None


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
  sources = results.answer_files(run_dir, 'accuracy', result.last.step)
  source = sources.get(SPLIT)
  if source is None or not source.exists():
    return target.exists()
  newer = source.stat().st_mtime_ns
  if target.exists() and target.stat().st_mtime_ns >= newer:
    return True
  found = list(_answers(run_dir, source, result))
  _check(source, found, result)
  target.parent.mkdir(exist_ok=True)
  with files.replacing(target) as work, work.open('w') as f:
    for answer in found:
      f.write(json.dumps(dataclasses.asdict(answer)) + '\n')
  return True


def _answers(
  run_dir: pathlib.Path, source: pathlib.Path, result: results.RunResult
) -> Iterator[Answer]:
  """Yields a run's answers, in the order of the questions."""
  method = result.settings.get('METHOD', '').strip('\'"')
  rationales = _rationales(run_dir, result.last.step)
  prefix = methods.LABEL_PREFIX if method == 'dss' else ''
  for number, row in enumerate(results.read_lines(source), 1):
    try:
      inputs = row['input']
      question = inputs['inputs_pretokenized'].removeprefix(prefix)
      gold, prediction = str(row['target']), _first(row['prediction'])
      name = str(inputs['id'])
    except (KeyError, TypeError, AttributeError) as error:
      raise errors.DataError(
        f'{source}, line {number}: expected an example with its id, input,'
        f' target and prediction, as SeqIO logs it ({error!r}).'
      ) from error
    own, teachers = rationales.get((name, question), (None, None))
    if method == 'single_task':
      own = _before_answer(_first(row.get('output')))
      teachers = _before_answer(inputs.get('targets_pretokenized', ''))
    yield Answer(
      name,
      question,
      gold,
      prediction,
      _is_correct(gold, prediction, result.spec.by_value),
      own,
      teachers,
    )


def _rationales(
  run_dir: pathlib.Path, step: int
) -> Mapping[tuple[str, str], tuple[str, str]]:
  """Returns the model's and the teacher's rationales by id and question."""
  source = results.answer_files(run_dir, 'bleu', step).get(SPLIT)
  if source is None or not source.exists():
    return {}
  found = {}
  for row in results.read_lines(source):
    inputs = row['input']
    question = inputs['inputs_pretokenized'].removeprefix(
      methods.RATIONALE_PREFIX
    )
    both = _first(row['prediction']), str(row['target'])
    found[str(inputs['id']), question] = both
  return found


def _first(value: Any) -> str:
  """The text of a prediction, the first one if several were decoded."""
  if isinstance(value, list):
    value = value[0] if value else ''
  return '' if value is None else str(value)


def _before_answer(text: str) -> str:
  before, phrase, rest = text.rpartition(methods.ANSWER_PHRASE)
  return (before if phrase else rest).strip()


def _is_correct(gold: str, prediction: str, by_value: bool) -> bool:
  if by_value:
    return equations.same_value(prediction, gold)
  return gold.strip() == prediction.strip()


def _check(
  source: pathlib.Path, found: list[Answer], result: results.RunResult
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


def read(out_dir: pathlib.Path, result: results.RunResult) -> list[Answer]:
  """Returns the answers in a run's file of predictions.

  Args:
    out_dir: the study's folder.
    result: of the run.

  Raises:
    DataError: the file can't be read.
  """
  path = out_dir / result.predictions
  try:
    return [Answer(**row) for row in results.read_lines(path)]
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


def _asked(answer: Answer) -> tuple[str, str, str]:
  return answer.id, answer.question, answer.gold


def _where(expected: list, found: list) -> str:
  if len(expected) != len(found):
    return f'{len(expected)} of them, found {len(found)}'
  pairs = enumerate(zip(expected, found, strict=True), 1)
  number, (left, right) = next((n, p) for n, p in pairs if p[0] != p[1])
  return f'found {right} instead of {left} in line {number}'
