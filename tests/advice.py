"""Commands that programs print as advice, found, read and parsed in tests."""

import importlib
import re
import shlex
import sys

import click
from absl import flags

from dss_jax import cli
from t5x import gin_utils
from tests.t5x import entry_points

# A command begins a line, or stands after a colon.
_BEGIN = re.compile(
  r'(?:^|: )(?P<command>(?:python -m (?:t5x|tasks|dss_jax)|dss |hf |tensorboard )'
  r'(?:[^\n]*\\\n)*[^\n]*)',
  re.MULTILINE,
)
# What rich draws around a command in a panel.
_FRAME = re.compile(r'^│ ?(.*?) *│$', re.MULTILINE)


def commands(printed: str) -> list[str]:
  """Returns the commands in what a program printed, as they stand there."""
  text = _FRAME.sub(r'\1', printed)
  # In a panel, what was indented comes after the frame.
  text = re.sub(r'^ +(?=python -m|dss |hf )', '', text, flags=re.MULTILINE)
  return [found['command'].rstrip() for found in _BEGIN.finditer(text)]


def words(command: str) -> list[str]:
  """Returns a command's words, as a shell reads them."""
  return shlex.split(command.replace('\\\n', ' '))


def parse(command: str) -> None:
  """Parses a command with the program's own parser; raises if it cannot."""
  first, *arguments = words(command)
  if first == 'dss':
    _parse_dss(arguments)
  elif (first, arguments[0]) == ('python', '-m'):
    _parse_t5x(arguments[1], arguments[2:])
  else:
    raise AssertionError(f'{command}: no program of ours')


def _parse_dss(arguments: list[str]) -> None:
  context = click.Context(cli.dss, info_name='dss')
  group: click.Command = cli.dss
  while isinstance(group, click.Group):
    name, found, arguments = group.resolve_command(context, arguments)
    assert found is not None
    context = found.make_context(name, list(arguments), parent=context)
    group, arguments = found, context.args


def _parse_t5x(name: str, arguments: list[str]) -> None:
  """Parses flags, gin files and bindings; every name must exist."""
  module = importlib.import_module(name)
  known = flags.FlagValues()
  flags.DEFINE_multi_string('gin_file', None, '', flag_values=known)
  bindings = [a for a in arguments if a.startswith('--gin.')]
  left = known(
    [name, *(a for a in arguments if a not in bindings)], known_only=False
  )
  assert left == [name], left
  with entry_points.main_module(module):
    gin_utils.parse_gin_flags([], known.gin_file or [], [
      binding.removeprefix('--gin.') for binding in bindings
    ])  # fmt: skip


def run(command: str, **options) -> 'object':
  """Runs a command as a shell does, with this Python in front."""
  import os
  import pathlib
  import subprocess

  environment = {**os.environ, **options.pop('env', {})}
  here = str(pathlib.Path(sys.executable).parent)
  environment['PATH'] = f'{here}:{environment["PATH"]}'
  return subprocess.run(
    ['bash', '-c', command], env=environment, capture_output=True, text=True,
    **options,
  )  # fmt: skip
