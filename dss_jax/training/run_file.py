"""The gin file of a run, OUT/run.gin: written, read back, and compared.

It has includes and macros, and nothing else: first those that were asked for,
then those that the rows decided, each group with its reason.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from dss_jax import command_lines, errors, neutral
from dss_jax.training import options as options_lib
from t5x import files
from t5x.cli import gin_reader

NAME = 'run.gin'
_ASKED = '# ---- As asked for '
_DECIDED = '# ---- As the data suggests '
_WIDTH = 78
# Differences that a message lists.
_MOST_LISTED = 8


@dataclasses.dataclass(frozen=True)
class Group:
  """Values that have one reason.

  Attributes:
    reason: why, in one line.
    values: by the name of the macro.
  """

  reason: str
  values: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class RunFile:
  """The content of a run's gin file.

  Attributes:
    text: the whole file.
    asked: the macros that were asked for, values as gin shows them.
    includes: the gin files that it includes.
  """

  text: str
  asked: Mapping[str, str]
  includes: tuple[str, ...]


def compose(asked: options_lib.Options, decided: Sequence[Group]) -> RunFile:
  """Returns the gin file of a run.

  Args:
    asked: what was asked for.
    decided: what the rows decided; what was asked for wins.
  """
  path = files.join(asked.out, NAME)
  method = gin_reader.read(asked.includes).macros['METHOD'].value
  about = neutral.line(asked.what)
  lines = [
    f'# A run on {about} by {asked.method or method!r}, written by',
    '#',
    *_commented(command_lines.typed(asked.words('train'), '  ')),
    '#',
    '# which trains, and after an interruption goes on, as this does:',
    '#',
    *_commented(command_lines.typed(_train(path), '  ')),
    '#',
    '# `dss options` lists every macro that may stand here.',
    'from __gin__ import dynamic_registration',
    '',
    *(f'include {path!r}' for path in asked.includes),
    '',
    _rule(_ASKED),
    *(f'{name} = {value}' for name, value in asked.asked.items()),
  ]
  title = ['', _rule(_DECIDED)]
  for group in decided:
    found = {k: v for k, v in group.values.items() if k not in asked.asked}
    if found:
      lines += [*title, f'# {neutral.line(group.reason)}']
      lines += [f'{name} = {value!r}' for name, value in found.items()]
      title = []
  return parse('\n'.join(lines) + '\n', path)


def _commented(text: str) -> list[str]:
  return [f'# {line}' for line in neutral.text(text).split('\n')]


def _rule(title: str) -> str:
  return f'{title}{"-" * (_WIDTH - len(title))}'


def _train(path: str) -> list[str]:
  return ['python', '-m', 't5x.train', f'--gin_file={path}']


def parse(text: str, place: str) -> RunFile:
  """Returns what a run's gin file says.

  Args:
    text: of the file.
    place: its path, for messages.

  Raises:
    errors.UserError: it is no gin file.
  """
  # A file that has no such line was changed by hand: all of it is asked for.
  before, _, _ = text.partition(f'\n{_DECIDED}')
  includes, asked = [], {}
  for statement in gin_reader.statements(before, place):
    name = type(statement).__name__
    if name == 'IncludeStatement':
      includes.append(statement.filename)
    elif name == 'BindingStatement':
      parts = filter(None, (statement.selector, statement.arg_name))
      asked['.'.join(parts)] = repr(statement.value)
  return RunFile(text, asked, tuple(includes))


@dataclasses.dataclass(frozen=True)
class Folder:
  """The folder that a run is to write to.

  Attributes:
    out: the folder.
  """

  out: str

  @property
  def path(self) -> str:
    """Where the run's gin file is."""
    return files.join(self.out, NAME)

  @property
  def step(self) -> int | None:
    """The last step that is saved; None if there is none."""
    found = [
      int(number)
      for path in epath.Path(self.out).glob('checkpoint_*')
      if (number := path.name.removeprefix('checkpoint_')).isdecimal()
    ]
    return max(found, default=None)

  def begun(self, asked: options_lib.Options) -> RunFile | None:
    """Returns the gin file of a run that is to go on; None if none is begun.

    Args:
      asked: what is asked for.

    Raises:
      DataError: the folder holds another run.
    """
    step = self.step
    if step is None:
      return None
    if not epath.Path(self.path).exists():
      raise errors.DataError(
        f'--out {self.out}: expected a new folder, or that of a run of this'
        f' command; found checkpoint_{step} and no {NAME}. Give another --out,'
        f' or go on with that run: {_going_on(f"{self.out}/config.gin")}'
      )
    there = parse(epath.Path(self.path).read_text(), self.path)
    lines = list(_differences(there, asked))
    if lines:
      more = len(lines) - _MOST_LISTED
      listed = [*lines[:_MOST_LISTED], *([f'and {more} more'] * (more > 0))]
      raise errors.DataError(
        f'--out {self.out}: this folder holds step {step} of another run than'
        ' is asked for:'
        + ''.join(f'\n  {line}' for line in listed)
        + '\nGive another --out, or the options of that run. To go on with it'
        f' all the same, with --gin.NAME=VALUE after {_going_on(self.path)}'
      )
    return there

  def write(self, run: RunFile) -> bool:
    """Writes the run's gin file.

    Args:
      run: its content.

    Returns:
      Whether it takes the place of another one.

    Raises:
      errors.UserError: another process writes to the folder.
    """
    from t5x import distributed  # Late, since it loads JAX.

    path = epath.Path(self.path)
    with contextlib.ExitStack() as stack:
      stack.enter_context(files.naming_path_in_errors(self.out, name='--out'))
      epath.Path(self.out).mkdir(parents=True, exist_ok=True)
      there = path.read_text() if path.exists() else run.text
      if there == run.text and path.exists():
        return False
      if not distributed.cluster():  # All of its processes write the same.
        # Of a run that has saved nothing yet, its process alone tells.
        stack.enter_context(files.folder_lock.writing(self.out))
      with files.replacing(path) as work:
        work.write_text(run.text)
      return there != run.text


def _going_on(gin_file: str) -> str:
  command = command_lines.train([gin_file], {})
  return command_lines.typed(command, one_line=True)


def _differences(there: RunFile, asked: options_lib.Options) -> Iterator[str]:
  here = parse(
    '\n'.join(f'{name} = {value}' for name, value in asked.asked.items()), ''
  ).asked
  if there.includes != asked.includes:
    yield (
      f'gin files: {", ".join(there.includes)} there,'
      f' {", ".join(asked.includes)} here'
    )
  for name in dict.fromkeys([*there.asked, *here]):
    before, now = there.asked.get(name), here.get(name)
    if before != now:
      yield f'{name}: {before or "not given"} there, {now or "not given"} here'
