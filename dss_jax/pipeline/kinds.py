"""The kinds of rationales that a student learns, each a task of its own.

One kind is the rule: the teacher's rationales, asked for by `explain: `. With
several, such as a chain of thought and a program, each has a prefix, a weight
in the loss, and a column of the rows. Kinds are numbered from 1, and everything
that belongs to the first is called as where there is no other.

Loads neither TensorFlow nor SeqIO: the model reads the kinds as well.
"""

import ast
import dataclasses
import hashlib
import math
import numbers
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dss_jax import errors
from dss_jax.data import columns
from dss_jax.pipeline import methods, packing

# Words that stand between kinds, or for something else, in names.
_RESERVED = ('and', 'gold')
_NAME = re.compile(r'[A-Za-z][A-Za-z0-9_]*')
_FIELDS = ('weight', 'prefix')


@dataclasses.dataclass(frozen=True)
class Kind:
  """One kind of rationales.

  Attributes:
    name: such as 'program'; '' for the only one, which nobody has named.
    number: its place among the kinds, from 1.
    prefix: before the input that asks for it.
    weight: of its loss among those of all kinds, which add up to 1.
    teacher: whose rationales they are; None for the experiment's TEACHER.
  """

  name: str = ''
  number: int = 1
  prefix: str = methods.RATIONALE_PREFIX
  weight: float = 1.0
  teacher: str | None = None

  @property
  def column(self) -> str:
    """The column of a row that holds it."""
    return columns.rationale(self.number)

  @property
  def title(self) -> str:
    """What a rationale of this kind is called in a text."""
    return self.name or 'rationale'

  @property
  def features(self) -> tuple[str, str]:
    """Its inputs and targets in an example that has all tasks of a row."""
    return f'{self.column}_inputs', f'{self.column}_targets'

  @property
  def task_id(self) -> int:
    """What marks its tokens in a batch."""
    return packing.LABEL_TASK + self.number

  @property
  def has_own_prefix(self) -> bool:
    """Whether its prefix is another than its name and place give it."""
    return self.prefix != default_prefix(self.name, self.number)

  def tag(self, teacher: str) -> str:
    """Returns what stands for the kind in names of tasks.

    >>> Kind('program', 2, 'program: ').tag('mine')
    'mine.program'

    Args:
      teacher: whose rationales they are.
    """
    parts = [teacher]
    if self.name not in ('', teacher):
      parts.append(self.name)
    if self.has_own_prefix:
      digest = hashlib.sha256(self.prefix.encode()).hexdigest()
      parts.append(f'p{digest[:6]}')
    return '.'.join(parts)


ONE = (Kind(),)


def sides_of(names: Sequence[str]) -> list[tuple[str, str]]:
  """Returns the pairs of inputs and targets that an example has.

  Those of the label come first, then those of the kinds.

  Args:
    names: of the example's features.
  """
  pairs = [('inputs', 'targets')]
  number = 1
  while any(name in names for name in Kind(number=number).features):
    pairs.append(Kind(number=number).features)
    number += 1
  return pairs


def default_prefix(name: str, number: int) -> str:
  """Returns the prefix of a kind that is given none.

  Args:
    name: of the kind.
    number: its place.
  """
  return methods.RATIONALE_PREFIX if number == 1 else f'{name}: '


def given(kinds: Any = None, teachers: Any = None) -> tuple[Kind, ...]:
  """Returns the kinds that two macros name.

  >>> [(k.name, k.prefix, k.weight) for k in given(('thought', 'program'))]
  [('thought', 'explain: ', 0.5), ('program', 'program: ', 0.5)]

  Args:
    kinds: RATIONALE_KINDS: names, or (name, weight) or (name, weight, prefix)
      in the place of one. Weights are relative to each other. None for one kind
      without a name, or for those of the teachers. Kinds are returned as they
      are.
    teachers: TEACHERS, one for each kind; None for one teacher.

  Raises:
    DataError: one of them has a value that it cannot have.
  """
  if kinds and isinstance(kinds, tuple) and isinstance(kinds[0], Kind):
    return kinds
  named = _given(kinds)
  of_teacher = _teachers(teachers)
  if named is None:
    if of_teacher is None:
      return ONE
    named = {teacher: {} for teacher in of_teacher}
  if of_teacher is not None and len(of_teacher) != len(named):
    raise errors.DataError(
      f'TEACHERS has {len(of_teacher)} names and RATIONALE_KINDS'
      f' {len(named)}: expected a teacher for each kind, in their order.'
    )
  weights = [float(fields.get('weight', 1)) for fields in named.values()]
  found = tuple(
    Kind(
      name=name,
      number=number,
      prefix=fields.get('prefix', default_prefix(name, number)),
      weight=weight / sum(weights),
      teacher=of_teacher[number - 1] if of_teacher else None,
    )
    for number, ((name, fields), weight) in enumerate(
      zip(named.items(), weights, strict=True), 1
    )
  )
  _check_prefixes(found)
  return found


def _given(kinds: Any) -> dict[str, Mapping[str, Any]] | None:
  """Checks RATIONALE_KINDS; returns fields by name."""
  if kinds is None:
    return None
  # A dict has an order here, and another one in the config.gin of a run.
  listed = isinstance(kinds, Sequence) and not isinstance(kinds, str)
  if not listed or not kinds:
    raise errors.DataError(
      f'RATIONALE_KINDS is {kinds!r:.120}: expected names such as'
      " ('thought', 'program'), or (('thought', 0.7), ('program', 0.3)) with"
      ' their weights, or None.'
    )
  named: dict[str, Mapping[str, Any]] = {}
  for kind in kinds:
    name, *fields = (kind,) if isinstance(kind, str) else _parts(kind)
    _check(name, dict(zip(_FIELDS, fields, strict=False)))
    if name in named:
      raise errors.DataError(
        f'RATIONALE_KINDS is {kinds!r:.120}: expected each name once.'
      )
    named[name] = dict(zip(_FIELDS, fields, strict=False))
  if not sum(float(fields.get('weight', 1)) for fields in named.values()):
    raise errors.DataError(
      'RATIONALE_KINDS: expected a weight above 0, found 0 for all kinds. For'
      ' no rationales, set METHOD = "finetune" or ALPHA = 1.0.'
    )
  return named


def _parts(kind: Any) -> Sequence[Any]:
  """Returns the parts of a kind that is more than a name."""
  if not isinstance(kind, Sequence) or not 1 <= len(kind) <= 1 + len(_FIELDS):
    raise errors.DataError(
      f'RATIONALE_KINDS has {kind!r:.60}: expected a name, (name, weight) or'
      ' (name, weight, prefix).'
    )
  return kind


def _check(name: Any, fields: Mapping[str, Any]) -> None:
  """Raises a DataError unless a kind can be called and weighed so."""
  if (
    not isinstance(name, str)
    or not _NAME.fullmatch(name)
    or (name in _RESERVED)
  ):
    raise errors.DataError(
      f'RATIONALE_KINDS names {name!r:.60}: expected letters, digits and _'
      f' after a letter (not {" or ".join(_RESERVED)}).'
    )
  weight = fields.get('weight', 1)
  real = isinstance(weight, numbers.Real) and not isinstance(weight, bool)
  if not real or not 0 <= weight < math.inf:
    raise errors.DataError(
      f'RATIONALE_KINDS weighs {name!r} with {weight!r}: expected a number from'
      ' 0.'
    )
  prefix = fields.get('prefix', name)
  if not isinstance(prefix, str) or not prefix.strip():
    raise errors.DataError(
      f'RATIONALE_KINDS has the prefix {prefix!r:.60} for {name!r}: expected a'
      " text such as 'program: '."
    )


def _check_prefixes(found: Sequence[Kind]) -> None:
  """Raises a DataError if two tasks are asked for in the same words."""
  known = {methods.LABEL_PREFIX.strip(): 'the label'}
  for kind in found:
    other = known.setdefault(kind.prefix.strip(), kind.name)
    if other != kind.name:
      raise errors.DataError(
        f'RATIONALE_KINDS has the prefix {kind.prefix!r} for {kind.name!r} and'
        f' for {other}: expected another one for each task, by which a student'
        ' tells them apart.'
      )


def _teachers(teachers: Any) -> tuple[str, ...] | None:
  """Checks TEACHERS; the names themselves are checked by the experiment."""
  if teachers is None:
    return None
  listed = isinstance(teachers, Sequence) and not isinstance(teachers, str)
  names = tuple(map(str, teachers)) if listed else ()
  if not names or len(set(names)) < len(names):
    raise errors.DataError(
      f'TEACHERS is {teachers!r:.120}: expected different names, such as'
      " ('palm', 'mine'), or None for TEACHER alone."
    )
  return names


def joined(tags: Sequence[str]) -> str:
  """Returns the tags of several kinds as one part of a name.

  >>> joined(['mine.thought', 'mine.program'])
  'mine.thought.and.program'

  Args:
    tags: from `Kind.tag`.
  """
  teacher = tags[0].partition('.')[0]
  first, *others = tags
  return '.and.'.join(
    [first, *(tag.removeprefix(f'{teacher}.') for tag in others)]
  )


def of_task(task: str) -> int:
  """Returns which kind of rationales a task has; 0 for one that has labels.

  >>> of_task('cqa_sample_rationale2_mine_test')
  2

  Args:
    task: its name.
  """
  found = re.search(r'_rationale(\d*)_', task)
  return int(found[1] or 1) if found else 0


def of_config(bindings: Mapping[str, str]) -> tuple[Kind, ...]:
  """Returns the kinds that a run's configuration names, as far as it says.

  Args:
    bindings: its macros, each value as gin writes it.
  """
  texts = [bindings.get(name) for name in ('RATIONALE_KINDS', 'TEACHERS')]
  try:
    values = [None if t is None else ast.literal_eval(t) for t in texts]
    return given(*values)
  except (ValueError, SyntaxError, RecursionError, MemoryError):
    return ONE
