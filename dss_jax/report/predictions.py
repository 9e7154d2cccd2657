"""What a run has answered, from the files that its evaluation left.

SeqIO writes a line for each example of an evaluated task: what the model read,
the target, and what it wrote. The label task and the rationale task of a split
have a file each, whose lines belong together by id and question.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from dss_jax import errors
from dss_jax.data import equations
from dss_jax.pipeline import methods
from dss_jax.report import run_files


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


class Rationales(NamedTuple):
  """Predictions of a task that is asked for rationales.

  Attributes:
    path: of the file; it may not be there.
    prefix: before its questions.
    kind: of the rationales, where there are several.
  """

  path: pathlib.Path
  prefix: str = methods.RATIONALE_PREFIX
  kind: str = ''


def read(
  labels: pathlib.Path,
  rationales: Sequence[Rationales],
  method: str,
  is_correct: Callable[[str, str], bool],
) -> Iterator[Answer]:
  """Yields a run's answers, in the order of the questions.

  Args:
    labels: predictions of the task that is asked for labels.
    rationales: those of the tasks that are asked for rationales. Of several
      kinds, an answer has all of them, each after its name.
    method: METHOD of the run; of another model than the method's, ''.
    is_correct: of a gold label and a prediction.

  Raises:
    DataError: a file can't be read, or holds something else.
  """
  written = _written(rationales)
  prefix = methods.LABEL_PREFIX if method == 'dss' else ''
  for number, row in enumerate(run_files.read_lines(labels), 1):
    try:
      inputs = row['input']
      question = inputs['inputs_pretokenized'].removeprefix(prefix)
      gold, prediction = _text(row['target']), _first(row['prediction'])
      name = str(inputs.get('id', number))
    except (KeyError, TypeError, AttributeError) as error:
      raise errors.DataError(
        f'{labels}, line {number}: expected an example with its input,'
        f' target and prediction, as SeqIO logs it ({error!r}).'
      ) from error
    own, teachers = written.get((name, question), (None, None))
    if method == 'single_task':
      own = _before_answer(_first(row.get('output')))
      teachers = _before_answer(inputs.get('targets_pretokenized', ''))
    yield Answer(
      name,
      question,
      gold,
      prediction,
      is_correct(gold, prediction),
      own,
      teachers,
    )


def _written(
  rationales: Sequence[Rationales],
) -> Mapping[tuple[str, str], tuple[str, str]]:
  """Returns the model's and the teacher's rationales by id and question."""
  found: dict[tuple[str, str], tuple[str, str]] = {}
  for of_kind in rationales:
    title = f'{of_kind.kind}: ' if of_kind.kind else ''
    for key, (own, teachers) in _rationales(of_kind).items():
      before = found.get(key)
      begin = [f'{text}\n' for text in before] if before else ['', '']
      found[key] = f'{begin[0]}{title}{own}', f'{begin[1]}{title}{teachers}'
  return found


def _rationales(
  rationales: Rationales,
) -> Mapping[tuple[str, str], tuple[str, str]]:
  """Returns the rationales of a kind by id and question."""
  path = rationales.path
  if not path.exists():
    return {}
  found = {}
  for number, row in enumerate(run_files.read_lines(path), 1):
    try:
      inputs = row['input']
      question = inputs['inputs_pretokenized'].removeprefix(rationales.prefix)
      both = _first(row['prediction']), _text(row['target'])
    except (KeyError, TypeError, AttributeError) as error:
      raise errors.DataError(
        f'{path}, line {number}: expected an example with its input, target and'
        f' prediction, as SeqIO logs it ({error!r}).'
      ) from error
    found[str(inputs.get('id', number)), question] = both
  return found


def _text(value: Any) -> str:
  """A value of an example as text; other models have lists and objects."""
  if value is None:
    return ''
  return value if isinstance(value, str) else json.dumps(value)


def _first(value: Any) -> str:
  """The text of a prediction, the first one if several were decoded."""
  if isinstance(value, list):
    value = value[0] if value else ''
  return _text(value)


def _before_answer(text: str) -> str:
  before, phrase, rest = text.rpartition(methods.ANSWER_PHRASE)
  return (before if phrase else rest).strip()


def is_same(gold: str, prediction: str) -> bool:
  """Whether texts are equal but for blanks around them.

  Args:
    gold: the label.
    prediction: the model's.
  """
  return gold.strip() == prediction.strip()


def is_same_value(gold: str, prediction: str) -> bool:
  """Whether a prediction has the value of the gold equation, or is the label.

  Args:
    gold: the label.
    prediction: the model's.
  """
  return is_same(gold, prediction) or equations.same_value(prediction, gold)
