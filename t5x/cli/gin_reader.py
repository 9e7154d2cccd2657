"""Gin files read as data: their macros, includes and references.

Nothing is imported or called for it, so that a mistake is found before the
libraries of a run are loaded, and a list of macros needs none of them.
"""

import dataclasses
import io
import os
import pathlib
import re
import tokenize
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from gin import config_parser
from t5x import errors
from t5x.files import gin_files

# A title, such as `# ---- Data ----`.
_RULE = re.compile('--')


class Reference(NamedTuple):
  """`@scope/name` or, called, `@scope/name()`."""

  name: str
  called: bool

  def __repr__(self) -> str:
    return f'@{self.name}{"()" * self.called}'


class MacroReference(NamedTuple):
  """`%NAME`."""

  name: str

  def __repr__(self) -> str:
    return f'%{self.name}'


class AsWritten(config_parser.ParserDelegate):
  """Keeps references and macros as they are written, and resolves none."""

  def configurable_reference(
    self, scoped_configurable_name: str, evaluate: bool
  ) -> Reference:
    """Returns a reference to a function or class."""
    return Reference(scoped_configurable_name, evaluate)

  def macro(self, macro_name: str) -> MacroReference:
    """Returns a reference to a macro."""
    return MacroReference(macro_name)


def statements(text: str, place: str) -> list[Any]:
  """Returns the statements of a gin file, as gin's parser has them.

  Args:
    text: of the file.
    place: its path, for messages.

  Raises:
    errors.UserError: it is no gin file.
  """
  try:
    return list(config_parser.ConfigParser(text, AsWritten()))
  except (
    SyntaxError,
    tokenize.TokenError,
    ValueError,
    RecursionError,
    MemoryError,
  ) as error:
    raise errors.UserError(f'{place}: expected a gin file; {error}.') from error


@dataclasses.dataclass(frozen=True)
class Macro:
  """A macro, as the file that has the last word sets it.

  Attributes:
    name: of the macro.
    value: a Python value, with references as `Reference` and `MacroReference`.
    file: that sets it, as it was given or included.
    line: of the file, from 1.
    meaning: the comment beside or directly above it, in the first file that has
      one; '' without any.
  """

  name: str
  value: Any
  file: str
  line: int
  meaning: str


@dataclasses.dataclass
class Contents:
  """What gin files say, includes followed.

  Attributes:
    files: all of them, in the order in which they begin.
    macros: by name, in the order in which they are first set.
    bindings: last values of parameters, by `scope/selector.parameter`.
    used: names of macros that some value refers to.
    unread: files that are in no folder, but in a package or at a URL.
    reading: the files that are being read, each included by the one before.
  """

  files: list[str] = dataclasses.field(default_factory=list)
  macros: dict[str, Macro] = dataclasses.field(default_factory=dict)
  bindings: dict[str, Any] = dataclasses.field(default_factory=dict)
  used: set[str] = dataclasses.field(default_factory=set)
  unread: list[str] = dataclasses.field(default_factory=list)
  reading: list[str] = dataclasses.field(default_factory=list)


def find(path: str, search_paths: Sequence[str] = ()) -> pathlib.Path | None:
  """Returns where gin finds a local file; None if it is not in a folder.

  Args:
    path: of a gin file.
    search_paths: folders to look in after the working folder, before the usual
      ones.
  """
  folders = [os.getcwd(), *search_paths, *gin_files.search_paths()]
  paths = (pathlib.Path(folder, path) for folder in folders)
  return next((p for p in paths if p.is_file()), None)


def read(paths: Sequence[str], search_paths: Sequence[str] = ()) -> Contents:
  """Reads gin files and what they include, in gin's order.

  A file that is not in a folder, but in a package or at a URL, is `unread`.

  Args:
    paths: of the files; later ones win.
    search_paths: as in `find`.

  Raises:
    errors.UserError: one of them is no gin file.
  """
  contents = Contents()
  for path in paths:
    _read_file(contents, path, search_paths)
  return contents


def read_text(text: str, place: str) -> Contents:
  """Reads the text of a gin file, and what it includes.

  Args:
    text: of the file.
    place: what it is called.

  Raises:
    errors.UserError: it is no gin file.
  """
  contents = Contents()
  _read_text(contents, text, place, ())
  return contents


def _read_file(
  contents: Contents, path: str, search_paths: Sequence[str]
) -> None:
  file = find(path, search_paths)
  if file is None:
    contents.unread.append(path)
    return
  if path in contents.reading:
    raise errors.UserError(f'{path}: this gin file includes itself.')
  contents.reading.append(path)
  _read_text(contents, file.read_text(encoding='utf-8'), path, search_paths)
  contents.reading.pop()


def _read_text(
  contents: Contents, text: str, place: str, search_paths: Sequence[str]
) -> None:
  contents.files.append(place)
  parsed = statements(text, place)
  comments = _Comments(text)
  for statement in parsed:
    if isinstance(statement, config_parser.IncludeStatement):
      _read_file(contents, statement.filename, search_paths)
    elif isinstance(statement, config_parser.BindingStatement):
      contents.used.update(_used(statement.value))
      scope = f'{statement.scope}/' if statement.scope else ''
      name = scope + statement.selector
      if statement.arg_name:
        contents.bindings[f'{name}.{statement.arg_name}'] = statement.value
      else:
        number = statement.location.line_num
        before = contents.macros.get(name)
        contents.macros[name] = Macro(
          name=name,
          value=statement.value,
          file=place,
          line=number,
          meaning=(before.meaning if before else '')
          or comments.meaning(number),
        )


def _used(value: Any) -> Iterator[str]:
  """Yields the names of the macros within a value."""
  if isinstance(value, MacroReference):
    yield value.name
  elif isinstance(value, dict):
    for pair in value.items():
      yield from _used(list(pair))
  elif isinstance(value, (list, tuple)) and not isinstance(value, Reference):
    for item in value:
      yield from _used(item)


class _Comments:
  """The comments of a gin file.

  Args:
    text: of the file, which gin's parser has accepted.
  """

  def __init__(self, text: str):
    self._beside: dict[int, str] = {}
    self._alone: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
      if token.type == tokenize.COMMENT:
        is_alone = not token.line[: token.start[1]].strip()
        kind = self._alone if is_alone else self._beside
        kind[token.start[0]] = token.string.lstrip('#').strip()

  def meaning(self, number: int) -> str:
    """Returns the comment beside a line, or else the one that ends above it."""
    if number in self._beside:
      return self._beside[number]
    first = number
    while first - 1 in self._alone and not _RULE.match(self._alone[first - 1]):
      first -= 1
    lines = (self._alone[n] for n in range(first, number))
    return ' '.join(' '.join(lines).split())


def differences(
  there: Contents, here: Contents, ignored: Sequence[str] = ()
) -> Iterator[str]:
  """Yields what two configurations differ in, such as `ALPHA: 1 there, 2 here`.

  Args:
    there: one configuration.
    here: the other.
    ignored: names of macros that may differ.
  """
  before, now = (
    {name: macro.value for name, macro in each.macros.items()} | each.bindings
    for each in (there, here)
  )
  for name in sorted({*before, *now} - set(ignored)):
    if (name in before) != (name in now) or before[name] != now[name]:
      shown = (
        repr(each[name]) if name in each else 'nothing'
        for each in (before, now)
      )
      yield '{}: {} there, {} here'.format(name, *shown)
