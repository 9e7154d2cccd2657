"""The page of all commands: writes docs/commands.md from their own help.

python docs/generate.py
"""

import pathlib
import re
import textwrap
from collections.abc import Iterator

import click
from absl import flags

from dss_jax import cli
from t5x.cli import flags as flags_lib

_PAGE = pathlib.Path(__file__).parent / 'commands.md'
_COLUMNS = 98
_HEAD = (
  '# Commands\n\nWhat each command says of itself with `--help`. This page is'
  ' written by `python docs/generate.py`.\n'
)
_ENGINE = """\
`python -m t5x.train`, `t5x.eval`, `t5x.infer` and `t5x.precompile` do what
their name says; `t5x.main` does what `--run_mode` says. All of them take the
[macros](macros.md) of the gin files as `--gin.NAME=VALUE`, and these flags:
"""


def _commands(
  command: click.Command, name: str, parent: click.Context | None = None
) -> Iterator[tuple[str, str]]:
  """Yields name and help of a command and of those below it."""
  context = click.Context(
    command,
    info_name=name,
    parent=parent,
    terminal_width=_COLUMNS,
    max_content_width=_COLUMNS,
    show_default=True,
  )
  yield context.command_path, command.get_help(context)
  if isinstance(command, click.Group):
    for below in command.list_commands(context):
      found = command.get_command(context, below)
      if found is not None and not found.hidden:
        yield from _commands(found, below, context)


def _help(flag: flags.Flag) -> str:
  """Returns the help of a flag of the engine, for a cell of a table."""
  text = re.sub(r'^<[^>]*>: ', '', ' '.join((flag.help or '').split()))
  values = getattr(flag.parser, 'enum_values', None)
  return f'One of {", ".join(values)}. {text}' if values else text


def page() -> str:
  """Returns the text of docs/commands.md."""
  parts = [_HEAD]
  for name, text in _commands(cli.dss, 'dss'):
    lines = '\n'.join(line.rstrip() for line in text.splitlines())
    parts.append(f'## `{name}`\n\n```text\n{lines}\n```\n')
  if 'gin_file' not in flags.FLAGS:
    flags_lib.define_flags()
  words = textwrap.fill(_ENGINE, 100, break_on_hyphens=False)
  parts.append(f"## The engine's commands\n\n{words}\n")
  defined = flags.FLAGS.flags_by_module_dict()[flags_lib.__name__]
  rows = sorted((flag.name, _help(flag)) for flag in defined)
  cells = [f'| `--{name}` | {text} |' for name, text in rows]
  parts.append('\n'.join(['| flag |  |', '| -- | -- |', *cells]) + '\n')
  return '\n'.join(parts)


if __name__ == '__main__':
  _PAGE.write_text(page(), encoding='utf-8')
  print(_PAGE)
