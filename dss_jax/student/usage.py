"""What those that ask a student must know of its training."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from dss_jax import errors, run_config
from dss_jax.data import own_rows, records, row_formats
from dss_jax.pipeline import kinds as kinds_lib
from dss_jax.pipeline import methods, registration

# Of a T5 whose folder says nothing about it: those that T5 was pretrained with.
_LENGTHS = {'inputs': 512, 'targets': 256}
_BATCH_SIZE = 64
# A longer one is no length of a text.
_LONGEST = 2**20
# Labels that an evaluation scored one by one.
_SCORED = 'support_of_'


@dataclasses.dataclass(frozen=True)
class Usage:
  """How a student was taught to read inputs and to answer.

  Attributes:
    method: 'dss', 'finetune' or 'single_task'. A T5 of which that is not known
      counts as 'finetune': it reads an input as it is.
    data_set: what it was trained on: 'cqa', 'custom', …; None if that is not
      known.
    inputs: tokens that it reads of an input; longer ones are cut.
    targets: the most tokens that it writes.
    column: what the files that it was trained on call an input.
    classes: the possible labels, if they are few and known.
    by_value: whether labels are equations, compared by their value.
    batch_size: texts that are answered together.
    kinds: of rationales: the name and the prefix of each; without a name where
      there is one.
  """

  method: str = 'finetune'
  data_set: str | None = None
  inputs: int = _LENGTHS['inputs']
  targets: int = _LENGTHS['targets']
  column: str = 'input'
  classes: tuple[str, ...] | None = None
  by_value: bool = False
  batch_size: int = _BATCH_SIZE
  kinds: tuple[tuple[str, str], ...] = (('', methods.RATIONALE_PREFIX),)

  def __post_init__(self) -> None:
    """Checks values that may come from a file.

    Raises:
      DataError: one is out of its range.
    """
    errors.choose('METHOD', self.method, methods.METHODS)
    for name in ('inputs', 'targets', 'batch_size'):
      value = getattr(self, name)
      if type(value) is not int or not 1 <= value <= _LONGEST:
        raise errors.DataError(
          f'{name} is {value!r}: expected a whole number from 1 to {_LONGEST}.'
        )
    # OwnData knows which classes are good ones.
    given = own_rows.OwnData('rows', classes=self.classes).classes
    object.__setattr__(self, 'classes', given)

  @property
  def prefix(self) -> str:
    """What stands before an input that asks for a label."""
    return methods.LABEL_PREFIX if self.method == 'dss' else ''

  def prefix_of(self, kind: str | None) -> str:
    """Returns what stands before an input that asks for a rationale.

    Args:
      kind: its name; None for the first.

    Raises:
      DataError: the student knows no such kind.
    """
    if kind is None:
      return self.kinds[0][1]
    prefixes = dict(self.kinds)
    errors.choose('The kind of rationales', kind, list(prefixes))
    return prefixes[kind]

  @property
  def in_parts(self) -> bool:
    """Whether `</s>` in an input is the end token between two parts."""
    return self.data_set is not None and registration.in_parts(self.data_set)

  @property
  def explains(self) -> bool:
    """Whether the student gives rationales."""
    return self.method != 'finetune'


def of_run(model: Any, folder: epath.Path | None) -> Usage:
  """Returns the usage of the run whose configuration is in force.

  Args:
    model: its model; those of T5X itself have no method and no kinds.
    folder: of the run, whose evaluation may tell the classes.

  Raises:
    DataError: the configuration has a value that it cannot have.
  """
  lengths = run_config.macro_or('TASK_FEATURE_LENGTHS', None) or {}
  data_set = run_config.macro_or('DATA_SET', None)
  own = own_rows.OwnData(
    'rows',
    columns=run_config.macro_or('COLUMNS', None),
    classes=run_config.macro_or('CLASSES', None),
  )
  classes = own.classes
  if classes is None and data_set in records.NLI_SETS:
    classes = row_formats.NLI_LABELS
  by_value = bool(run_config.macro_or('BY_VALUE', False))
  by_value |= data_set in records.EQUATION_SETS
  if classes is None and folder is not None and not by_value:
    classes = scored_classes(folder)
  return Usage(
    method=getattr(model, 'method', 'finetune'),
    data_set=data_set,
    inputs=lengths.get('inputs') or _LENGTHS['inputs'],
    targets=lengths.get('targets') or _LENGTHS['targets'],
    column=own.file_columns('input')[0],
    classes=None if classes is None else tuple(classes),
    by_value=by_value,
    batch_size=run_config.macro_or('EVAL_BATCH_SIZE', None) or _BATCH_SIZE,
    kinds=tuple(
      (kind.name, kind.prefix)
      for kind in getattr(model, 'kinds', kinds_lib.ONE)
    ),
  )


def scored_classes(run: epath.Path) -> tuple[str, ...] | None:
  """Returns the labels that a run's evaluation scored one by one.

  That are those of its validation and test rows, where they are few.

  Args:
    run: its folder.
  """
  found: dict[str, None] = {}
  for path in sorted((run / 'inference_eval').glob('*-metrics.jsonl')):
    lines = path.read_bytes().decode('utf-8', 'replace').splitlines()
    try:
      last = json.loads(lines[-1]) if lines else {}
    except ValueError:
      continue  # Cut short by a kill.
    if isinstance(last, Mapping):
      names = (str(k) for k in last if str(k).startswith(_SCORED))
      found |= {name.removeprefix(_SCORED): None for name in names}
  return tuple(sorted(found)) or None


def as_json(usage: Usage) -> dict[str, Any]:
  """Returns a usage as values for a JSON file."""
  return dataclasses.asdict(usage)


def from_json(values: Any, place: str) -> Usage:
  """Returns the usage that `as_json` gave.

  Args:
    values: from a JSON file.
    place: of the file, for messages.

  Raises:
    DataError: they are no usage.
  """
  known = {field.name for field in dataclasses.fields(Usage)}
  if not isinstance(values, Mapping) or not set(values) <= known:
    raise errors.DataError(
      f'{place}: expected a JSON object with some of {", ".join(sorted(known))}'
      f' as usage, found {values!r:.80}. Export the student again.'
    )
  values = dict(values)
  for name in ('data_set', 'column'):
    if not isinstance(values.get(name, ''), str | None):
      raise errors.DataError(
        f'{place}: expected {name} to be a text, found {values[name]!r:.80}.'
        ' Export the student again.'
      )
  if isinstance(values.get('classes'), Sequence):
    values['classes'] = tuple(values['classes'])
  if 'kinds' in values:
    values['kinds'] = _kinds(values['kinds'], place)
  try:
    return Usage(**values)
  except errors.DataError as error:
    raise errors.DataError(f'{place}: {error}') from error


def _kinds(values: Any, place: str) -> tuple[tuple[str, str], ...]:
  """Checks the kinds of a usage from a JSON file."""
  pairs = tuple(
    tuple(pair)
    for pair in (values if isinstance(values, list) else ())
    if isinstance(pair, list)
  )
  if not pairs or not all(
    len(pair) == 2 and all(isinstance(text, str) for text in pair)
    for pair in pairs
  ):
    raise errors.DataError(
      f'{place}: expected kinds to be pairs of a name and a prefix, found'
      f' {values!r:.80}. Export the student again.'
    )
  return pairs
