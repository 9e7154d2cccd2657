"""Options of `dss train`: what was asked for, as macros of the gin files.

Everything is checked here that needs no row, so that a mistake is answered
before a library is loaded.
"""

import dataclasses
import glob
import os
from collections.abc import Mapping, Sequence
from typing import Any

from dss_jax import errors
from dss_jax.data import own_options, row_files
from dss_jax.pipeline import kinds as kinds_lib
from dss_jax.pipeline import methods
from dss_jax.study import experiments
from dss_jax.study import grid as grid_lib
from t5x.cli import gin_reader
from t5x.files import gin_files

_LABELS = ('gold', 'teacher')
# Macros that an option of its own sets.
_OPTION_OF = {
  'DATA': '--data, or the first argument',
  'DATA_SET': 'the first argument',
  'METHOD': '--method',
  'COLUMNS': '--column',
  'TEACHER': '--teacher',
  'TEACHERS': '--teachers',
  'LABELS': '--labels',
  'FRACTION': '--fraction',
  'TRAIN_STEPS': '--steps',
  'TEST': '--test',
  'MODEL_DIR': '--out',
}
_OWN_ONLY = ('column', 'test')


@dataclasses.dataclass(frozen=True)
class Options:
  """What `dss train` is asked for. The names are those of its options.

  Attributes:
    what: a data set's name, a file of rows, or a gin file.
    method: 'dss', 'finetune' or 'single_task'; None for the experiment's own,
      as in all that follow.
    column: of own rows, by the name that they stand for.
    kinds: of rationales, by name; () for those that `column` or `set` names.
    size: a file of gin/sizes, without its ending.
    teacher: whose outputs.
    teachers: whose rationales, where they are several.
    labels: 'gold' or 'teacher'.
    fraction: of the train rows.
    steps: TRAIN_STEPS.
    data: DATA of a data set: 'release' or a path.
    test: a file of own rows to evaluate on.
    set: further macros by name, each value as gin reads it.
    out: the run's folder.
  """

  what: str
  method: str | None = None
  column: Mapping[str, tuple[str, ...]] = dataclasses.field(
    default_factory=dict
  )
  kinds: tuple[str, ...] = ()
  size: str | None = None
  teacher: str | None = None
  teachers: tuple[str, ...] = ()
  labels: str | None = None
  fraction: float | None = None
  steps: int | None = None
  data: str | None = None
  test: str | None = None
  set: Mapping[str, str] = dataclasses.field(default_factory=dict)
  out: str = ''

  def __post_init__(self):
    """Checks what needs no row.

    Raises:
      DataError: an option has a value that it cannot have.
    """
    for name, known in (('method', methods.METHODS), ('labels', _LABELS)):
      if getattr(self, name) is not None:
        errors.choose(f'--{name}', getattr(self, name), known)
    kinds_lib.given(self.kinds or None, self.teachers or None)
    if self.steps is not None and self.steps < 1:
      raise errors.DataError(f'--steps {self.steps}: expected a number from 1.')
    if self.fraction is not None and not 0 < self.fraction <= 1:
      raise errors.DataError(
        f'--fraction {self.fraction}: expected a number above 0 up to 1.'
      )
    if self.size is not None:
      check_size(self.size)
    self._check_data()
    self._check_settings()

  def _check_data(self) -> None:
    """Raises a DataError if there is no such data, or options don't fit it."""
    experiments.find(self.what)
    if self.is_own:
      for path in filter(None, (self.what, self.test)):
        row_files.find(path)
      if self.data is not None:
        raise errors.DataError(
          f'--data {self.data}: expected a data set'
          f' ({", ".join(experiments.DATA_SETS)}) with it, found the rows'
          f' {self.what}, which are the data. Leave --data out.'
        )
      own_options.OwnData(self.what, columns=dict(self.column))
      return
    for name in _OWN_ONLY:
      if getattr(self, name):
        raise errors.DataError(
          f'--{name}: expected a file of rows with it, found {self.what!r},'
          f' whose files say so themselves. Leave --{name} out.'
        )

  def _check_settings(self) -> None:
    """Raises a DataError for a macro that is unknown, or has an option."""
    known = gin_reader.read(self.includes).macros
    if self.kinds and 'RATIONALE_KINDS' in self.set:
      raise errors.DataError(
        '--kinds and --set RATIONALE_KINDS: expected one of them, found both.'
        ' Leave --kinds out: the macro has names, prefixes and weights.'
      )
    for name in self.set:
      if name in _OPTION_OF:
        raise errors.DataError(
          f'--set {name}: expected the option of its own: {_OPTION_OF[name]}.'
        )
      if name not in known:
        raise errors.DataError(
          f'--set {name}: the gin files have no macro of this name.'
          f'{errors.did_you_mean(name, known)} `dss options` lists them.'
        )

  @property
  def is_own(self) -> bool:
    """Whether the data is rows of the user's own."""
    return 'DATA' in experiments.find(self.what).bindings

  @property
  def includes(self) -> tuple[str, ...]:
    """The gin files that the run's own one includes."""
    size = () if self.size is None else (f'gin/sizes/{self.size}.gin',)
    return (*experiments.find(self.what).gin_files, *size)

  @property
  def asked(self) -> dict[str, str]:
    """The macros that were asked for, each value as gin reads it."""
    kinds = self.kinds or own_options.mapped_kinds(list(self.column))
    values: dict[str, Any] = {
      'DATA': self.what if self.is_own else self.data,
      'COLUMNS': own_options.as_macro(self.column) or None,
      'RATIONALE_KINDS': kinds or None,
      'TEST': self.test,
      'METHOD': self.method,
      'TEACHER': self.teacher,
      'TEACHERS': self.teachers or None,
      'LABELS': self.labels,
      'FRACTION': self.fraction,
      'TRAIN_STEPS': self.steps,
      'MODEL_DIR': self.out,
    }
    given = {k: repr(v) for k, v in values.items() if v is not None}
    return given | dict(self.set)

  def words(self, command: str) -> list[str]:
    """Returns a command of `dss` with these options.

    Args:
      command: 'train' or 'check'.
    """
    given = {
      '--method': self.method,
      '--size': self.size,
      '--kinds': ','.join(self.kinds) or None,
      '--teacher': self.teacher,
      '--teachers': ','.join(self.teachers) or None,
      '--labels': self.labels,
      '--fraction': self.fraction,
      '--steps': self.steps,
      '--data': self.data,
      '--test': self.test,
    }
    found = ['dss', command, self.what]
    for name, columns_of in self.column.items():
      found += ['--column', f'{name}={",".join(columns_of)}']
    for option, value in given.items():
      if value is not None:
        found += [option, str(value)]
    for name, value in self.set.items():
      found += ['--set', f'{name}={_bare(value)}']
    return [*found, '--out', self.out]

  @property
  def title(self) -> str:
    """What is done, in one line."""
    macros = gin_reader.read(self.includes).macros
    method = self.method or macros['METHOD'].value
    data = self.what
    if not self.is_own:
      data += f' ({self.data or macros["DATA"].value})'
    size = self.size or 'tiny'
    return f'{data}: method {method}, size {size}, in {self.out}'


def _bare(value: str) -> str:
  """Returns a value without quotes that it does not need."""
  word = value[1:-1]
  try:
    return word if grid_lib.gin_value(word) == value else value
  except errors.DataError:
    return value


def check_size(size: str) -> None:
  """Raises a DataError unless there is a size of this name.

  Args:
    size: such as 'base' or 'flan_t5/small'.
  """
  if gin_reader.find(f'gin/sizes/{size}.gin') is None:
    known = sizes()
    raise errors.DataError(
      f'--size {size}: expected one of {", ".join(known)}.'
      f'{errors.did_you_mean(size, known)}'
    )


def sizes() -> list[str]:
  """Returns the sizes of the package."""
  folders = [os.getcwd(), *gin_files.search_paths()]
  found = {
    name.removesuffix('.gin')
    for folder in folders
    for name in glob.iglob(
      '**/*.gin', root_dir=os.path.join(folder, 'gin', 'sizes'), recursive=True
    )
  }
  return sorted(found - {'finetune'})


def names(text: str | None) -> tuple[str, ...]:
  """Returns the names in a list such as `thought,program`.

  Args:
    text: of an option; None for none.
  """
  return tuple(name.strip() for name in text.split(',')) if text else ()


def settings(pairs: Sequence[str]) -> dict[str, str]:
  """Returns the macros of `--set NAME=VALUE`, each value as gin reads it.

  Args:
    pairs: of all options; the last one of a name counts.

  Raises:
    DataError: one is not NAME=VALUE, or its value is none.
  """
  found = {}
  for pair in pairs:
    name, equals, value = (part.strip() for part in pair.partition('='))
    if not equals or not value:
      raise errors.DataError(
        f'--set {pair!r}: expected NAME=VALUE, such as LEARNING_RATE=1e-4.'
      )
    if '.' in name or '/' in name:
      raise errors.DataError(
        f'--set {name}: expected a macro in capitals. A parameter of a class'
        ' takes a gin file of your own; see `dss train --help`.'
      )
    found[name] = grid_lib.gin_value(value)
  return found
