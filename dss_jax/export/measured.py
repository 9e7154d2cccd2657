"""What a run's folder says about a checkpoint: scores, and what it saw.

Everything is read from files that the run wrote beside its checkpoints. A
folder without them, such as one with a checkpoint alone, says nothing.
"""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from dss_jax.pipeline import kinds

_METRICS = '-metrics.jsonl'
# The last one in a task's name: a teacher may be called `test`, too.
_SPLIT = re.compile(r'_(validation|test)(?=_|$)')
# Names of scores in the metrics of labels; `rouge_l` comes with `bleu`.
LABEL_SCORES = ('accuracy', 'agreement')
_SPLITS = ('test', 'validation')


@dataclasses.dataclass(frozen=True)
class Score:
  """One number.

  Attributes:
    name: 'accuracy', 'agreement', 'bleu' or 'rouge_l'.
    split: 'test' or 'validation'.
    value: a percentage.
    interval: the ends of its 95% interval; None where it has none.
    examples: how many were scored; None where the answers are not there.
    kind: of the rationales, by its number; 0 for labels.
  """

  name: str
  split: str
  value: float
  interval: tuple[float, float] | None
  examples: int | None
  kind: int = 0


@dataclasses.dataclass(frozen=True)
class Measured:
  """What a run's folder says.

  Attributes:
    scores: at the step of the checkpoint, those of test first.
    classes: the labels that were scored one by one, if they are few.
    examples: that were trained on, by task.
  """

  scores: tuple[Score, ...] = ()
  classes: tuple[str, ...] = ()
  examples: Mapping[str, int] = dataclasses.field(default_factory=dict)


def read(run: epath.Path, step: int) -> Measured:
  """Returns what a run's folder says about a checkpoint.

  Args:
    run: the folder, local or remote.
    step: of the checkpoint.
  """
  scores: list[Score] = []
  classes: dict[str, None] = {}
  folder = run / 'inference_eval'
  for path in sorted(folder.glob(f'*{_METRICS}')) if folder.exists() else ():
    task = path.name.removesuffix(_METRICS)
    split = _SPLIT.findall(task)
    # A step that was evaluated again after a kill: the later line counts.
    rows = [row for row in _objects(path) if row.get('step') == step]
    if not split or not rows:
      continue
    answers = folder / f'{task}-{step:06}.jsonl'
    count = len(list(_objects(answers))) if answers.exists() else None
    found = _scores(rows[-1], split[-1], count)
    scores += (
      dataclasses.replace(score, kind=kinds.of_task(task)) for score in found
    )
    classes.update(dict.fromkeys(_classes(rows[-1])))
  scores.sort(key=lambda score: (_SPLITS.index(score.split), score.kind))
  return Measured(tuple(scores), tuple(classes), _examples(run / 'run.json'))


def _scores(
  row: Mapping[str, Any], split: str, count: int | None
) -> Iterator[Score]:
  labels = [name for name in LABEL_SCORES if name in row]
  # Labels that are sentences have an overlap, too, which is not a rationale's.
  for name in labels or ('bleu', 'rouge_l'):
    if name in row:
      low, high = (row.get(f'{name}_{end}') for end in ('low', 'high'))
      interval = None
      if low is not None and high is not None:
        interval = (float(low), float(high))
      yield Score(name, split, float(row[name]), interval, count)


def _classes(row: Mapping[str, Any]) -> Iterator[str]:
  for key in row:
    name = key.removeprefix('support_of_')
    if name != key:
      yield name


def _objects(path: epath.Path) -> Iterator[dict[str, Any]]:
  """Yields a file's JSON objects; what a kill has cut is passed over."""
  for line in path.read_text(encoding='utf-8').split('\n'):
    try:
      row = json.loads(line)
    except ValueError:
      continue
    if isinstance(row, dict):
      yield row


def _examples(path: epath.Path) -> dict[str, int]:
  """Returns the counts in a run's run.json; none of one without them."""
  if not path.exists():
    return {}
  try:
    found = json.loads(path.read_text(encoding='utf-8'))['data']['examples']
    return {str(task): int(count) for task, count in found.items()}
  except (ValueError, KeyError, TypeError, AttributeError):
    return {}
