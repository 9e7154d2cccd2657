"""Gin files and flags: parsing, checking, keeping, and running a program."""

import contextlib
import glob
import importlib.metadata
import importlib.util
import inspect
import logging as std_logging
import os
import re
import sys
import tokenize
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from absl import app, flags, logging
from etils import epath

import gin
from t5x import distributed, errors

_SEARCH_PATH_GROUP = 't5x.gin_search_paths'
# What gin appends to an exception for each configurable that it came through.
_GIN_TRAIL = re.compile(r'\n+\s*In call to configurable.*', re.DOTALL)


def search_paths() -> list[str]:
  """Returns the folders against which gin files are looked up.

  First the folder that holds the package, so that `t5x/configs/…` is found
  from anywhere; then the folder of every installed package that asks for it by
  an entry point of the group `t5x.gin_search_paths`.
  """
  found = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
  for entry in importlib.metadata.entry_points(group=_SEARCH_PATH_GROUP):
    spec = importlib.util.find_spec(entry.value)
    if spec is not None and spec.submodule_search_locations:
      found.extend(spec.submodule_search_locations)
  return list(dict.fromkeys(found))


def rewrite_gin_args(args: Sequence[str]) -> Sequence[str]:
  """Turns `--gin.NAME=VALUE` into `--gin_bindings=NAME = VALUE`.

  >>> rewrite_gin_args(['--gin.TRAIN_STEPS=20', '--dry_run'])
  ['--gin_bindings=TRAIN_STEPS = 20', '--dry_run']

  Args:
    args: the command line.

  Returns:
    The command line, other arguments as they were.

  Raises:
    errors.UserError: for `--gin.NAME` without a value.
  """

  def rewrite(arg: str) -> str:
    if not arg.startswith('--gin.'):
      return arg
    name, equals, value = arg.removeprefix('--gin.').partition('=')
    if not equals or not name:
      raise errors.UserError(
        f'{arg}: expected --gin.NAME=VALUE, strings in quotes of their own:'
        ' --gin.MODEL_DIR="\'runs/mine\'".'
      )
    return f'--gin_bindings={name} = {value}'

  return [rewrite(arg) for arg in args]


def parse_gin_flags(
  gin_search_paths: Sequence[str],
  gin_files: Sequence[str],
  gin_bindings: Sequence[str],
  skip_unknown: bool | Sequence[str] = False,
  finalize_config: bool = True,
) -> None:
  """Parses gin files and bindings; later ones win.

  Args:
    gin_search_paths: folders to look files up in, after the working folder
      and before the usual ones.
    gin_files: files.
    gin_bindings: lines such as `TRAIN_STEPS = 20`.
    skip_unknown: as gin has it.
    finalize_config: whether to lock the configuration.

  Raises:
    errors.UserError: for an absent file, a line that gin can't parse, or a
      macro on the command line that no file knows.
  """
  places = [*gin_search_paths, *search_paths()]
  for path in places:
    gin.add_config_file_search_path(path)
  for path in gin_files:
    _check_file(path, [os.getcwd(), *places])
  with _as_user_errors(), _without_gins_search():
    gin.parse_config_files_and_bindings(
      gin_files, [], skip_unknown=skip_unknown, finalize_config=False
    )
    if gin_files:
      _check_macros(gin_bindings)
    gin.parse_config(gin_bindings, skip_unknown=skip_unknown)
    if finalize_config:
      gin.finalize()


def _check_macros(bindings: Sequence[str]) -> None:
  """Refuses a macro that nothing uses: gin would take it without a word."""
  text = gin.config_str()
  known = set(re.findall(r'%([A-Za-z_][\w.]*)', text))
  known |= set(re.findall(r'^([A-Z][A-Z0-9_]*) =', text, re.MULTILINE))
  for binding in bindings:
    name = binding.partition('=')[0].strip()
    if re.fullmatch(r'[A-Za-z_]\w*', name) and name not in known:
      raise errors.UserError(
        f'--gin.{name}: the gin files use no macro of this name.'
        f'{errors.did_you_mean(name, known)} Known:'
        f' {", ".join(sorted(n for n in known if n.isupper()))}.'
      )


@contextlib.contextmanager
def _without_gins_search() -> Iterator[None]:
  """Keeps gin from logging an error for each place where a file is not."""

  def keep(record: std_logging.LogRecord) -> bool:
    return record.module != 'resource_reader'

  root = std_logging.getLogger()
  root.addFilter(keep)
  try:
    yield
  finally:
    root.removeFilter(keep)


@contextlib.contextmanager
def _as_user_errors() -> Iterator[None]:
  """Makes gin's complaints about what the user wrote into `UserError`s."""
  try:
    yield
  except errors.UserError:
    raise
  except OSError as e:
    raise errors.UserError(f'Gin file: {e}') from e
  except tokenize.TokenError as e:
    raise errors.UserError(
      'Gin configuration: a bracket or a string is opened in a file or a'
      f' --gin.NAME=VALUE and never closed ({e.args[0]}).'
    ) from e
  except (ValueError, SyntaxError, RuntimeError, TypeError, KeyError) as e:
    missing = re.match(r'(\w+)/macro\.value set to `%gin\.REQUIRED`', str(e))
    if missing:
      name = missing.group(1)
      raise errors.UserError(
        f'The gin files leave {name} to you: give --gin.{name}=VALUE (strings'
        f' in quotes of their own: --gin.{name}="\'…\'").'
      ) from e
    raise errors.UserError(
      f'Gin configuration: {e}{_close_parameter(str(e))}'
    ) from e
  except ImportError as e:
    raise errors.UserError(
      f'A gin file imports a module that is not there: {e}'
    ) from e


def _close_parameter(message: str) -> str:
  """Returns a did-you-mean for gin's message about an unknown parameter."""
  found = re.search(
    r"Configurable '([\w.]+)' doesn't have a parameter named '(\w+)'", message
  )
  if not found:
    return ''
  selector, parameter = found.groups()
  found = gin.get_configurable(selector)
  # Gin's class takes anything; what it makes says what it takes.
  known = inspect.signature(
    found.__init__ if inspect.isclass(found) else found
  ).parameters
  return errors.did_you_mean(parameter, known)


def _check_file(path: str, places: Sequence[str]) -> None:
  """Raises UserError unless a gin file, and what it includes, is there."""
  if '://' in path:
    return  # A file system that gin was taught.
  places = list(dict.fromkeys(places))
  paths = (os.path.join(place, path) for place in places)
  found = [p for p in paths if os.path.isfile(p)]
  if found:
    with open(found[0], encoding='utf-8') as f:
      included = re.findall(r"""^include\s+['"](.+?)['"]""", f.read(), re.M)
    for other in included:
      _check_file(other, places)
  elif not _is_resource(path):
    raise errors.UserError(
      f'Gin file not found: {path}.'
      f'{errors.did_you_mean(path, _gin_files_near(path, places))} Looked in'
      f' {", ".join(places)}.'
    )


def _is_resource(path: str) -> bool:
  """Whether gin finds a file within an installed package."""
  package, name = os.path.split(path)
  try:
    spec = importlib.util.find_spec(package.replace(os.sep, '.'))
  except (ImportError, ValueError):
    return False
  origin = spec.origin if spec else None
  return bool(origin) and os.path.isfile(
    os.path.join(os.path.dirname(origin), name)
  )


def _gin_files_near(path: str, places: Sequence[str]) -> list[str]:
  """Gin files in the folder of `path`, or elsewhere in its first folder."""
  found: set[str] = set()
  first = path.split(os.sep)[0] if not os.path.isabs(path) else ''
  for place in places:
    folder = os.path.join(place, os.path.dirname(path))
    patterns = [os.path.join(folder, '*.gin')]
    if first and first != path:
      patterns.append(os.path.join(place, first, '**', '*.gin'))
    for pattern in patterns:
      for match in glob.iglob(pattern, recursive=True):
        inside = not os.path.isabs(path)
        found.add(os.path.relpath(match, place) if inside else match)
  return sorted(found)


def summarize_gin_config(
  model_dir: str, summary_writer: Any | None, step: int
) -> None:
  """Keeps the configuration of a run as `config.gin`, and as a summary.

  Args:
    model_dir: the run's folder; written by process 0 only.
    summary_writer: a `clu` metric writer, or None.
    step: the step that the summary belongs to.
  """
  if jax.process_index() != 0:
    return
  config = gin.config_str()
  folder = epath.Path(model_dir)
  folder.mkdir(parents=True, exist_ok=True)
  partial = folder / f'config.gin.{os.getpid()}.tmp'
  partial.write_text(config)
  partial.replace(folder / 'config.gin')
  if summary_writer is not None:
    summary_writer.write_texts(step, {'config': gin.markdown(config)})
    summary_writer.flush()


def run(main: Callable[[Sequence[str]], Any]) -> None:
  """Runs a program whose flags may hold `--gin.NAME=VALUE`.

  A mistake of the user's (an exception that carries an `exit_code`) is printed
  as one message, without a traceback; the process then ends with that code.

  Args:
    main: called with the arguments that are not flags.
  """

  def guarded(argv: Sequence[str]) -> Any:
    with distributed.failures_end_all(), user_errors_end_the_process():
      return main(argv)

  with user_errors_end_the_process():
    args = rewrite_gin_args(sys.argv)
  app.run(guarded, argv=args, flags_parser=_parse_flags)


def _parse_flags(args: Sequence[str]) -> list[str]:
  """Parses flags; a mistake in them is a user's mistake like any other."""
  with user_errors_end_the_process():
    try:
      return flags.FLAGS(args)
    except flags.UnrecognizedFlagError as e:
      close = errors.did_you_mean(e.flagname, flags.FLAGS)
      raise errors.UserError(
        f'Unknown flag --{e.flagname}.{close} Macros of the gin files are set'
        f' with --gin.NAME=VALUE. --help lists the flags.'
      ) from e
    except flags.Error as e:
      raise errors.UserError(f'Flags: {e} --help lists the flags.') from e


@contextlib.contextmanager
def user_errors_end_the_process() -> Iterator[None]:
  """Prints a user's mistake and exits; lets every other exception pass."""
  try:
    yield
  except Exception as e:
    code = getattr(e, 'exit_code', None)
    if code is None and str(e).startswith('Required bindings for'):
      code = errors.UserError.exit_code
    if code is None:
      raise
    logging.debug('A user error, raised here:', exc_info=True)
    print(f'\nerror: {_GIN_TRAIL.sub("", str(e))}', file=sys.stderr)
    sys.exit(code)
