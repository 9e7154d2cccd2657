"""Grid of a study: its options, the runs that they come to, and their names.

A run's name depends on nothing but the run itself and on which options the
study gives, never on how many values they have. So a grid that grows keeps the
names of the runs that are there.
"""

import ast
import dataclasses
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dss_jax import errors
from dss_jax.pipeline import kinds as kinds_lib
from dss_jax.study import experiments

# A study's names for what is trained, and the macros that each one is. Those
# without rationales are not affected by TEACHER unless labels are its own.
METHODS: Mapping[str, Mapping[str, Any]] = {
  'finetune': {'METHOD': 'finetune'},
  'distill': {'METHOD': 'finetune', 'LABELS': 'teacher'},
  'dss': {'METHOD': 'dss'},
  'single_task': {'METHOD': 'single_task'},
  'shuffled': {'METHOD': 'dss', 'SHUFFLE_RATIONALES': True},
}
_WEIGHTED = ('dss', 'shuffled')
LABELS = ('gold', 'teacher')
# Between the names of kinds that are learned together.
BETWEEN_KINDS = '+'
# Macros that the grid's own options set, and the option of each.
_OPTIONS = {
  'METHOD': 'methods',
  'SHUFFLE_RATIONALES': 'methods',
  'LABELS': 'labels',
  'FRACTION': 'fractions',
  'RANDOM_SEED': 'seeds',
  'MODEL_DIR': 'out',
}
_MACROS_OF = {
  'teachers': 'TEACHER',
  'alphas': 'ALPHA',
  'kinds': 'RATIONALE_KINDS',
  'steps': 'TRAIN_STEPS',
  'data': 'DATA',
}
# A grid beyond this is a mistake, which would fill the memory with runs.
MOST_RUNS = 10_000
_AXES = (
  'methods', 'fractions', 'sizes', 'labels', 'teachers', 'kinds', 'alphas'
)  # fmt: skip
_TEACHER = re.compile(r'[A-Za-z0-9][A-Za-z0-9_]*')
_NAME = re.compile(r'[A-Za-z_][\w./]*')
# Beginnings of values that gin reads itself: references, macros, containers,
# quoted texts.
_GIN_VALUE = ('@', '%', '(', '[', '{', '"', "'")


def gin_value(text: Any) -> str:
  """Returns a value as gin reads it; bare words become texts.

  >>> gin_value('release'), gin_value('1e-3'), gin_value('@a.b()')
  ("'release'", '1e-3', '@a.b()')

  Args:
    text: what the user wrote, or a value that YAML has read.

  Raises:
    DataError: it begins like a list, a dict or a quoted text and is none.
  """
  if not isinstance(text, str):
    return repr(text)
  text = text.strip()
  if text.startswith(('@', '%')):
    return text
  try:
    ast.literal_eval(text)
  except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
    # A container may hold references, which only gin reads.
    if not text.startswith(_GIN_VALUE):
      return repr(text)
    if text[0] in '([{' and re.search(r'[@%]', text):
      return text
    raise errors.DataError(
      f'{text!r:.100}: expected a value such as 3, release, [1, 2] or "a text";'
      f' {error}.'
    ) from error
  return text


@dataclasses.dataclass(frozen=True)
class Point:
  """One run of a grid.

  Attributes:
    method: a name in `METHODS`.
    fraction: of the training rows.
    seed: of everything that is drawn.
    size: a file of gin/sizes, without its ending; None for the experiment's.
    labels: 'gold' or 'teacher'.
    teacher: whose rationales and labels; None for the experiment's own, or
      where the method uses none.
    alpha: weight of the label loss; None for the size's own, or where the
      method has one loss.
    kinds: of rationales, such as 'thought+program'; None for the experiment's
      own, or where the method uses none.
  """

  method: str
  fraction: float
  seed: int
  size: str | None = None
  labels: str = 'gold'
  teacher: str | None = None
  alpha: float | None = None
  kinds: str | None = None

  @property
  def name(self) -> str:
    """The run's name, and that of its folder: `dss_f0.5_s1_base`."""
    parts = [self.method, f'f{_digits(self.fraction)}', f's{self.seed}']
    if self.size is not None:
      parts.append(self.size.replace('/', '-'))
    if self.labels == 'teacher' and self.method != 'distill':
      parts.append('teacher-labels')
    if self.teacher is not None:
      parts.append(f'by-{self.teacher}')
    if self.kinds is not None:
      parts.append(f'kinds-{self.kinds.replace(BETWEEN_KINDS, "-")}')
    if self.alpha is not None:
      parts.append(f'a{_digits(self.alpha)}')
    return '_'.join(parts)

  @property
  def macros(self) -> dict[str, Any]:
    """The macros that make a run of the experiment this one."""
    found = dict(METHODS[self.method])
    if self.labels == 'teacher':
      found['LABELS'] = 'teacher'
    found |= {'FRACTION': self.fraction, 'RANDOM_SEED': self.seed}
    if self.teacher is not None:
      found['TEACHER'] = self.teacher
    if self.alpha is not None:
      found['ALPHA'] = self.alpha
    return found


def _digits(value: float) -> str:
  """Writes a number exactly, and whole ones without a point."""
  return repr(float(value)).removesuffix('.0')


@dataclasses.dataclass(frozen=True)
class Grid:
  """What a study is asked for. The names are those of the command's options.

  Attributes:
    experiment: a data set's name, a gin file, or a file of rows.
    methods: names in `METHODS`; the first is what others are compared with.
    fractions: of the training rows, each in (0, 1].
    seeds: how many; they are 0, 1, ….
    sizes: files of gin/sizes without their ending; none for the experiment's.
    labels: 'gold', 'teacher' or both; `distill` has the teacher's anyway.
    teachers: names; none for the experiment's own.
    kinds: of rationales, such as 'thought' and 'thought+program'; none for the
      experiment's own. Of published rows they are teachers.
    alphas: weights of the label loss; none for the size's own.
    data: DATA, such as 'release'; None for the experiment's own.
    steps: TRAIN_STEPS; None for the size's own.
    rationales: whether generated rationales are evaluated, too.
    gin_file: further gin files, after those of experiment and size.
    set: macros and other bindings by name, each value as gin reads it.
  """

  experiment: str
  methods: tuple[str, ...] = ('finetune', 'dss')
  fractions: tuple[float, ...] = (1.0,)
  seeds: int = 3
  sizes: tuple[str, ...] = ()
  labels: tuple[str, ...] = ('gold',)
  teachers: tuple[str, ...] = ()
  kinds: tuple[str, ...] = ()
  alphas: tuple[float, ...] = ()
  data: str | None = None
  steps: int | None = None
  rationales: bool = False
  gin_file: tuple[str, ...] = ()
  set: Mapping[str, str] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    """Checks what needs no file.

    Raises:
      DataError: an option has a value that it cannot have.
    """
    runs = self.seeds * math.prod(len(getattr(self, n)) or 1 for n in _AXES)
    if runs > MOST_RUNS:
      raise errors.DataError(
        f'The grid has {runs:,} runs: expected at most {MOST_RUNS:,}. Give'
        ' fewer --seeds, or fewer values of the other options.'
      )
    for name, known in (('methods', METHODS), ('labels', LABELS)):
      for value in getattr(self, name):
        errors.choose(f'--{name}', value, list(known))
    for name in ('methods', 'fractions', 'labels'):
      if not getattr(self, name):
        raise errors.DataError(f'--{name}: expected at least one, found none.')
    for name in _AXES:
      values = getattr(self, name)
      twice = [v for n, v in enumerate(values) if v in values[:n]]
      if twice:
        raise errors.DataError(
          f'--{name}: expected each value once, found {twice[0]!r} twice.'
        )
    for name, low in (('fractions', False), ('alphas', True)):
      for value in getattr(self, name):
        if not (0 < value <= 1 or (low and value == 0)):
          raise errors.DataError(
            f'--{name}: expected numbers {"from" if low else "above"} 0 up to'
            f' 1, found {value!r}.'
          )
    for name, least in (('seeds', 1), ('steps', 1)):
      value = getattr(self, name)
      if value is not None and value < least:
        raise errors.DataError(
          f'--{name}: expected a number from {least}, found {value}.'
        )
    for teacher in self.teachers:
      if not _TEACHER.fullmatch(teacher) or teacher == 'gold':
        raise errors.DataError(
          f'--teachers: expected names of letters, digits and _ (not gold),'
          f' found {teacher!r}.'
        )
    for value in self.kinds:
      kinds_lib.given(tuple(value.split(BETWEEN_KINDS)))
    self._check_settings()

  def _check_settings(self) -> None:
    """Raises a DataError for a setting that an option of its own makes."""
    for name in self.set:
      if not _NAME.fullmatch(name):
        raise errors.DataError(
          f'--set {name!r}: expected NAME=VALUE, such as LEARNING_RATE=1e-4.'
        )
      option = _OPTIONS.get(name)
      if name == 'TEACHERS' and self.kinds:
        option = 'kinds'
      for given, macro in _MACROS_OF.items():
        if name == macro and getattr(self, given) not in (None, ()):
          option = given
      if option:
        raise errors.DataError(
          f'--set {name}: the grid sets this macro; use --{option}.'
        )

  @property
  def points(self) -> list[Point]:
    """The runs, each once: one seed of everything before the next seed."""
    found = dict.fromkeys(
      _point(*axes)
      for axes in itertools.product(
        range(self.seeds),
        self.sizes or (None,),
        self.fractions,
        self.methods,
        self.labels,
        self.teachers or (None,),
        self.kinds or (None,),
        self.alphas or (None,),
      )
    )
    return list(found)

  def bindings(self, point: Point) -> dict[str, str]:
    """Returns what a run's command sets, by name, except for its folder.

    Args:
      point: the run.
    """
    fixed: dict[str, Any] = {'EVAL_RATIONALES': self.rationales, 'KEEP': 1}
    if self.data is not None:
      fixed['DATA'] = self.data
    if self.steps is not None:
      fixed['TRAIN_STEPS'] = self.steps
    if self.kinds:
      own = experiments.has_own_rows(self.experiment, self.gin_file)
      macro = 'RATIONALE_KINDS' if own else 'TEACHERS'
      kinds = point.kinds
      if kinds is None and own:
        # Rows with several kinds are read for some, also where none is learned.
        kinds = self.kinds[0]
      if kinds is not None:
        fixed[macro] = tuple(kinds.split(BETWEEN_KINDS))
    grid = {k: repr(v) for k, v in (fixed | point.macros).items()}
    # KEEP and EVAL_RATIONALES are defaults of a study, which users may change.
    return grid | dict(self.set)


def _point(
  seed: int,
  size: str | None,
  fraction: float,
  method: str,
  labels: str,
  teacher: str | None,
  kinds: str | None,
  alpha: float | None,
) -> Point:
  """Returns a run without what makes no difference to it."""
  if method == 'distill' or (method, labels) == ('finetune', 'teacher'):
    # Two names for one run.
    method, labels = 'distill', 'teacher'
  if method == 'finetune':
    teacher = None
  if method in ('finetune', 'distill'):
    kinds = None
  if method not in _WEIGHTED:
    alpha = None
  return Point(method, fraction, seed, size, labels, teacher, alpha, kinds)


def differences(before: Grid, now: Grid) -> Iterator[str]:
  """Yields what keeps a grid from going on with another one's runs.

  Runs may be added. A run of the same name must have the same configuration,
  and no run may be missing.

  Args:
    before: the grid of a study that was begun.
    now: the one that is asked for.
  """
  new = {point.name: point for point in now.points}
  for option, text in _shared(before, now):
    yield f'{option}: {text}'
  for point in before.points:
    if point.name not in new:
      yield f'the run {point.name}: there, not here'
      continue
    old, asked = before.bindings(point), now.bindings(new[point.name])
    for name in sorted({*old, *asked}):
      if old.get(name) != asked.get(name):
        yield (
          f'{name} of {point.name}: {old.get(name, "nothing")} there,'
          f' {asked.get(name, "nothing")} here'
        )


def _shared(before: Grid, now: Grid) -> Iterator[tuple[str, str]]:
  for option in ('experiment', 'gin_file'):
    there, here = getattr(before, option), getattr(now, option)
    if there != here:
      yield option, f'{_text(there)} there, {_text(here)} here'


def _text(value: str | Sequence[str]) -> str:
  return value if isinstance(value, str) else ', '.join(value) or 'nothing'
