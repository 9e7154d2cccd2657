"""The command `dss`: from rows to a small model that answers alone.

  dss train my_rows.jsonl --out runs/mine

A command's module is imported when the command is called, so that `dss --help`
is fast and the other commands work without a package that only one needs. A
user's mistake ends with one message and exit code 2.
"""

import contextlib
import dataclasses
import importlib
import importlib.util
import io
import signal
import sys
from collections.abc import Iterator, Sequence

import click

import dss_jax
from dss_jax import errors, neutral
from t5x.cli import streams


@dataclasses.dataclass(frozen=True)
class _Command:
  """A command that is not loaded yet.

  Attributes:
    module: the module that defines it, under its own name.
    help: its line in `dss --help`.
    extra: the extra of the package that installs what it needs beyond the
      package's own requirements, or ''.
  """

  module: str
  help: str
  extra: str = ''


_COMMANDS = {
  'train': _Command(
    'dss_jax.training.command', 'Trains on rows of your own, or on a data set.'
  ),
  'check': _Command(
    'dss_jax.training.command', 'Checks a run before it trains.'
  ),
  'options': _Command(
    'dss_jax.training.command', 'Lists every macro: value, meaning, file.'
  ),
  'ask': _Command(
    'dss_jax.student.command', 'Asks a finished student about texts or rows.'
  ),
  'data': _Command(
    'dss_jax.commands.data', 'Looks at data, or prepares it for training.'
  ),
  'export': _Command(
    'dss_jax.export.command', 'Writes a student for Hugging Face transformers.'
  ),
  'extract': _Command(
    'dss_jax.extract.command',
    'Asks a teacher for rationales and labels.',
    'extract',
  ),
  'plan': _Command(
    'dss_jax.plan.command',
    'Estimates what a run needs: memory, time, a mesh that fits.',
  ),
  'report': _Command(
    'dss_jax.report.command',
    'Writes a page on runs: scores, curves, mistakes.',
    'report',
  ),
  'study': _Command(
    'dss_jax.study.command',
    'Compares methods by a grid of runs, with a report.',
    'study',
  ),
}
# If one of these is missing, it is a bug, and nothing to be installed.
_OURS = ('dss_jax', 't5x', 'tasks')


def _exists(module: str) -> bool:
  try:
    return importlib.util.find_spec(module) is not None
  except ModuleNotFoundError:
    return False


class _Commands(click.Group):
  """A group whose commands are imported when they are called."""

  def list_commands(self, ctx: click.Context) -> list[str]:
    """Returns the names of the commands that exist."""
    return [n for n, command in _COMMANDS.items() if _exists(command.module)]

  def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
    """Imports a command; returns None if there is none of that name."""
    if name not in self.list_commands(ctx):
      return None
    with _naming_what_to_install(name):
      module = importlib.import_module(_COMMANDS[name].module)
    return getattr(module, name)

  def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple:
    """Finds the command that the arguments name.

    Raises:
      UsageError: there is none; the message names the closest.
    """
    known = self.list_commands(ctx)
    if args and args[0] not in known and not args[0].startswith('-'):
      ctx.fail(
        f'There is no command {args[0]!r}: expected one of {", ".join(known)}.'
        + errors.did_you_mean(args[0], known)
      )
    return super().resolve_command(ctx, args)

  def invoke(self, ctx: click.Context) -> object:
    """Calls the command that the arguments name."""
    try:
      return super().invoke(ctx)
    except ModuleNotFoundError as error:
      if ctx.invoked_subcommand is None:
        raise
      with _naming_what_to_install(ctx.invoked_subcommand):
        raise error

  def format_commands(
    self, ctx: click.Context, formatter: click.HelpFormatter
  ) -> None:
    """Writes the list of `dss --help`, importing nothing."""
    rows = [(name, _COMMANDS[name].help) for name in self.list_commands(ctx)]
    with formatter.section('Commands'):
      formatter.write_dl(rows)


class _Missing(click.ClickException):
  """A package that a command needs is not installed."""

  exit_code = 2


@contextlib.contextmanager
def _naming_what_to_install(name: str) -> Iterator[None]:
  """Turns a missing package, other than our own, into a message."""
  try:
    yield
  except ModuleNotFoundError as error:
    if str(error.name).partition('.')[0] in _OURS:
      raise
    extra = _COMMANDS[name].extra
    package = f'dss-jax[{extra}]' if extra else 'dss-jax'
    raise _Missing(
      f'`dss {name}` needs the package {error.name!r}, which is not installed.'
      f" Install it with: pip install '{package}'"
    ) from error


@click.command(cls=_Commands, context_settings={'show_default': True})
@click.version_option(dss_jax.__version__)
def dss() -> None:
  """Distilling step by step: from rows to a small model."""


def main(arguments: Sequence[str] | None = None) -> None:
  """Entry point of the command `dss`.

  Args:
    arguments: of the command; None for those of the process.
  """
  if arguments is None:
    streams.forgive_closed()
  try:
    dss.main(arguments, prog_name='dss', standalone_mode=False)
  except click.ClickException as error:
    shown = io.StringIO()
    error.show(shown)
    neutral.say(neutral.message(shown.getvalue().rstrip()), err=True)
    sys.exit(error.exit_code)
  except click.Abort as error:
    if not isinstance(error.__cause__, KeyboardInterrupt):
      sys.exit(1)
    neutral.say(
      'SIGINT: ended. What is complete stays; the same command goes on.',
      err=True,
    )
    sys.exit(128 + signal.SIGINT)
  except Exception as error:
    # The project's own exceptions carry the exit code.
    exit_code = getattr(error, 'exit_code', None)
    if not isinstance(exit_code, int):
      from t5x import errors as engine_errors
      from t5x import files

      told = files.storage_error(error) or engine_errors.memory_error(error)
      if told is None:
        raise
      error, exit_code = told, told.exit_code
    neutral.say(f'Error: {neutral.message(error)}', err=True)
    sys.exit(exit_code)


if __name__ == '__main__':
  main()
