"""Commands that programs print as advice, found, read and parsed in tests."""

import importlib
import os
import pathlib
import re
import shlex
import subprocess
import sys

import click
from absl import flags
from absl.testing import flagsaver

from dss_jax import cli
from t5x import gin_utils
from t5x.cli import flags as flags_lib
from tests.t5x import entry_points

# A command begins a line, or stands after a colon; others go on behind `\\`.
_BEGIN = re.compile(
  r'(?:^|: +)((?:python -m (?:t5x|tasks|dss_jax)|dss |hf |tensorboard )'
  r'(?:[^\n]*\\\n)*[^\n]*)',
  re.MULTILINE,
)
# What rich draws around a command in a panel, and what stands before one.
_FRAME = re.compile(r'^│ ?(.*?) *│$', re.MULTILINE)
_INDENT = re.compile(
  r'^ +(?=python -m|dss |hf )|^curves +(?=tensorboard)', re.MULTILINE
)


def commands(printed: str) -> list[str]:
  """Returns the commands in what a program printed, as they stand there."""
  text = _INDENT.sub('', _FRAME.sub(r'\1', printed))
  return [found[1].rstrip() for found in _BEGIN.finditer(text)]


def words(command: str) -> list[str]:
  """Returns a command's words, as a shell reads them."""
  return shlex.split(command.replace('\\\n', ' '))


def parse(command: str) -> None:
  """Parses a command with the program's own parser; raises if it cannot.

  Gin files are read and every binding is made, but nothing is computed.
  """
  first, *arguments = words(command)
  if first == 'dss':
    _parse_dss(arguments)
  elif (first, arguments[0]) == ('python', '-m'):
    _parse_t5x(arguments[1], arguments[2:])
  else:
    raise AssertionError(f'{command}: no program of ours')


def _parse_dss(arguments: list[str]) -> None:
  group: click.Command = cli.dss
  context = click.Context(group, info_name='dss')
  while isinstance(group, click.Group):
    name, found, arguments = group.resolve_command(context, arguments)
    assert found is not None and name is not None
    if isinstance(found, click.Group):
      context = click.Context(found, info_name=name, parent=context)
    else:
      found.make_context(name, list(arguments), parent=context)
    group = found


def _parse_t5x(name: str, arguments: list[str]) -> None:
  module = importlib.import_module(name)
  if 'gin_file' not in flags.FLAGS:
    flags_lib.define_flags()
  with flagsaver.flagsaver():
    left = flags.FLAGS([name, *gin_utils.rewrite_gin_args(arguments)])
    assert left == [name], left
    values = flags.FLAGS
    with entry_points.main_module(module):
      gin_utils.parse_gin_flags(
        values.gin_search_paths, values.gin_file or [], values.gin_bindings
      )
      gin_utils.check_values()


def run(
  command: str, folder: pathlib.Path, **variables: str
) -> subprocess.CompletedProcess:
  """Runs a command as a shell does, with this Python's programs.

  Args:
    command: as it was printed.
    folder: to run it in.
    **variables: of the environment.
  """
  environment = {**os.environ, **variables}
  here = str(pathlib.Path(sys.executable).parent)
  environment['PATH'] = f'{here}:{environment["PATH"]}'
  return subprocess.run(
    ['bash', '-c', command],
    cwd=folder,
    env=environment,
    stdin=subprocess.DEVNULL,
    capture_output=True,
    text=True,
  )
