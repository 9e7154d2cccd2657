"""Gin files and flags: parsed and checked, and the programs they configure."""

import contextlib
import glob
import importlib.metadata
import importlib.util
import logging as std_logging
import os
import pathlib
import re
import signal
import sys
import tokenize
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from absl import app, flags, logging
from etils import epath

import gin
from gin import config_parser
from t5x import errors, files, neutral
from t5x.gin_utils import mistakes

_SEARCH_PATH_GROUP = 't5x.gin_search_paths'
# Values of another type, as other languages and YAML write them.
_NOT_STRINGS = {
  'true': 'True', 'yes': 'True', 'on': 'True',
  'false': 'False', 'no': 'False', 'off': 'False',
  'none': 'None', 'null': 'None',
}  # fmt: skip
# What gin appends to an exception for each configurable that it came through.
_GIN_TRAIL = re.compile(r'\n+\s*In call to configurable.*', re.DOTALL)


def search_paths() -> list[str]:
  """Returns the folders against which gin files are looked up.

  First the folder that holds the package, so that `t5x/configs/…` is found
  from anywhere; then the folder of every installed package that asks for it by
  an entry point of the group `t5x.gin_search_paths`.
  """
  folders = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
  for entry in importlib.metadata.entry_points(group=_SEARCH_PATH_GROUP):
    spec = importlib.util.find_spec(entry.value)
    if spec is not None and spec.submodule_search_locations:
      folders.extend(spec.submodule_search_locations)
  return list(dict.fromkeys(folders))


def rewrite_gin_args(args: Sequence[str]) -> list[str]:
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
  rewritten = []
  for arg in args:
    if arg.startswith('--gin.'):
      name, equals, value = arg.removeprefix('--gin.').partition('=')
      if not equals or not name:
        raise errors.UserError(
          f'{arg}: expected --gin.NAME=VALUE, strings in quotes of their own:'
          ' --gin.MODEL_DIR="\'runs/mine\'".'
        )
      arg = f'--gin_bindings={name} = {value}'
    rewritten.append(arg)
  return rewritten


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
  folders = [*gin_search_paths, *search_paths()]
  for path in folders:
    gin.add_config_file_search_path(path)
  check_files(gin_files, gin_search_paths)
  with mistakes.as_user_errors(), _without_search_log():
    gin.parse_config_files_and_bindings(
      gin_files, [], skip_unknown=skip_unknown, finalize_config=False
    )
    gin_bindings = [with_quotes(binding) for binding in gin_bindings]
    if gin_files:
      check_macros(gin_bindings, _known_macros())
    gin.parse_config(gin_bindings, skip_unknown=skip_unknown)
    if finalize_config:
      gin.finalize()


class _AnyReference(config_parser.ParserDelegate):
  """Takes all references as they are, to see whether a value is well formed."""

  def configurable_reference(
    self, scoped_configurable_name: str, evaluate: bool
  ) -> str:
    return f'@{scoped_configurable_name}'

  def macro(self, macro_name: str) -> str:
    return f'%{macro_name}'


def with_quotes(binding: str) -> str:
  """Returns a line of a flag, a bare word in it as the string that it means.

  `METHOD = finetune` becomes `METHOD = 'finetune'`: a shell takes the quotes of
  `--gin.METHOD='finetune'` away.

  Args:
    binding: a line such as `TRAIN_STEPS = 20`.

  Raises:
    errors.UserError: the value needs quotes of its own and is no bare word, or
      it is a word that more likely is no string.
  """
  name, equals, value = (part.strip() for part in binding.partition('='))
  if not equals or not value or re.search(r"""['"()\[\]{}@%\n]""", value):
    return binding
  try:
    for _ in config_parser.ConfigParser(f'x = {value}', _AnyReference()):
      pass
  except (SyntaxError, ValueError, tokenize.TokenError):
    pass
  else:
    return binding
  meant = _NOT_STRINGS.get(value.lower())
  if meant:
    raise errors.UserError(
      f'--gin.{name}={value}: expected a value as Python writes it. Give'
      f' --gin.{name}={meant}, or --gin.{name}="\'{value}\'" for the word.'
    )
  if re.fullmatch(r'[A-Za-z_][\w-]*', value):
    return f'{name} = {value!r}'
  raise errors.UserError(
    f'--gin.{name}={value}: expected a value as Python writes it. A string has'
    ' quotes of its own, inside those of the shell:'
    f' --gin.{name}="\'{value}\'".'
  )


def _known_macros() -> set[str]:
  """Returns the macros of the configuration in force."""
  text = gin.config_str()
  known = set(re.findall(r'%([A-Za-z_][\w.]*)', text))
  return known | set(re.findall(r'^([A-Z][A-Z0-9_]*) =', text, re.MULTILINE))


def check_macros(bindings: Sequence[str], known: Collection[str]) -> None:
  """Refuses a macro that nothing uses, which gin would silently accept.

  Args:
    bindings: lines of flags, such as `TRAIN_STEPS = 20`.
    known: the macros of the gin files.

  Raises:
    errors.UserError: a line sets another macro.
  """
  for binding in bindings:
    name = binding.partition('=')[0].strip()
    if re.fullmatch(r'[A-Za-z_]\w*', name) and name not in known:
      raise errors.UserError(
        f'--gin.{name}: the gin files use no macro of this name.'
        f'{errors.did_you_mean(name, known)} Known:'
        f' {", ".join(sorted(n for n in known if n.isupper()))}.'
      )


@contextlib.contextmanager
def _without_search_log() -> Iterator[None]:
  """Keeps gin from logging an error for each folder that lacks a file."""

  def keep(record: std_logging.LogRecord) -> bool:
    return record.module != 'resource_reader'

  root = std_logging.getLogger()
  root.addFilter(keep)
  try:
    yield
  finally:
    root.removeFilter(keep)


def check_values() -> None:
  """Makes the configured objects that check their values and read nothing.

  Those are the objects of classes with a true attribute `checked_by_dry_run`.
  """
  for scope, selector in list(gin.config._CONFIG):
    name = '/'.join(filter(None, (scope, selector)))
    configurable = gin.get_configurable(name)
    if getattr(configurable, 'checked_by_dry_run', False):
      configurable()


def check_files(paths: Sequence[str], before: Sequence[str]) -> None:
  """Raises UserError unless gin files, and what they include, exist.

  Args:
    paths: of the files.
    before: folders to look in after the working folder, before the usual ones.
  """
  folders = list(dict.fromkeys([os.getcwd(), *before, *search_paths()]))
  for path in paths:
    _check_file(path, folders)


def _check_file(
  path: str, folders: Sequence[str], within: tuple[str, ...] = ()
) -> None:
  """Raises UserError unless a gin file, and what it includes, exists."""
  if files.is_remote(path):
    return  # A file system that is registered with gin.
  if path in within:
    raise errors.UserError(f'{path}: this gin file includes itself.')
  paths = (pathlib.Path(folder, path) for folder in folders)
  file = next((p for p in paths if p.is_file()), None)
  if file is not None:
    text = file.read_text(encoding='utf-8')
    for included in re.findall(r"""^include\s+['"](.+?)['"]""", text, re.M):
      _check_file(included, folders, (*within, path))
  elif not _is_resource(path):
    raise errors.UserError(
      f'Gin file not found: {path}.'
      f'{errors.did_you_mean(path, _gin_files_near(path, folders))} Looked in'
      f' {", ".join(folders)}.'
    )


def _is_resource(path: str) -> bool:
  """Whether gin finds a file within an installed package."""
  package, name = os.path.split(path)
  try:
    spec = importlib.util.find_spec(package.replace(os.sep, '.'))
  except (ImportError, ValueError):
    return False
  if spec is None or spec.origin is None:
    return False
  return pathlib.Path(spec.origin).with_name(name).is_file()


def _gin_files_near(path: str, folders: Sequence[str]) -> list[str]:
  """Returns gin files in the folder of `path`, or below its first folder."""
  if os.path.isabs(path):
    return sorted(glob.glob(os.path.join(os.path.dirname(path), '*.gin')))
  patterns = [os.path.join(os.path.dirname(path), '*.gin')]
  if os.sep in path:
    patterns.append(os.path.join(path.split(os.sep)[0], '**', '*.gin'))
  return sorted(
    {
      match
      for folder in folders
      for pattern in patterns
      for match in glob.iglob(pattern, root_dir=folder, recursive=True)
    }
  )


def bindings() -> dict[str, str]:
  """Returns the bindings and macros in force, as gin files have them.

  `{'LEARNING_RATE': '0.002', 'train.model': '@DistillModel()'}`
  """
  found = {}
  for line in gin.config_str(max_line_length=1 << 20).splitlines():
    name, equals, value = line.partition(' = ')
    if equals and not line.startswith('#'):
      found[name] = value
  return found


def summarize_gin_config(
  model_dir: str, summary_writer: Any | None, step: int
) -> None:
  """Keeps the configuration of a run as `config.gin`, and as a summary.

  Args:
    model_dir: the run's folder; written by process 0 only.
    summary_writer: a `clu` metric writer, or None.
    step: the step that the summary belongs to.
  """
  import jax  # Late, since flags and gin files are checked before it is loaded.

  if jax.process_index() != 0:
    return
  config = gin.config_str()
  folder = epath.Path(model_dir)
  folder.mkdir(parents=True, exist_ok=True)
  with files.replacing(folder / 'config.gin') as work:
    work.write_text(config)
  if summary_writer is not None:
    summary_writer.write_texts(step, {'config': gin.markdown(config)})
    summary_writer.flush()


def run(main: Callable[[list[str]], Any]) -> None:
  """Runs a program whose flags may hold `--gin.NAME=VALUE`.

  A mistake of the user's (an exception that carries an `exit_code`) is printed
  as one message, without a traceback; the process then ends with that code.

  Args:
    main: called with the arguments that are not flags.
  """
  from t5x import distributed

  def guarded(argv: list[str]) -> Any:
    with distributed.failures_end_all(), user_errors_end_the_process():
      return main(argv)

  with user_errors_end_the_process():
    args = rewrite_gin_args(sys.argv)
  try:
    app.run(guarded, argv=args, flags_parser=_parse_flags)
  except KeyboardInterrupt:
    # During training it is a run's own business; see `t5x.run.preemption`.
    neutral.say(
      '\nSIGINT: ended. What is complete stays; the same command goes on.',
      err=True,
    )
    sys.exit(128 + signal.SIGINT)


def _parse_flags(args: list[str]) -> list[str]:
  """Parses flags; a mistake in them is a user error like any other."""
  with user_errors_end_the_process():
    try:
      return flags.FLAGS(args)
    except flags.Error as e:
      raise flag_error(e, flags.FLAGS) from e


def flag_error(error: flags.Error, known: Iterable[str]) -> errors.UserError:
  """Returns the error for a flag that there is not, or for a flag's value.

  Args:
    error: absl's.
    known: names of the flags that there are.
  """
  if not isinstance(error, flags.UnrecognizedFlagError):
    return errors.UserError(f'Flags: {error} --help lists the flags.')
  close = errors.did_you_mean(error.flagname, known)
  return errors.UserError(
    f'Unknown flag --{error.flagname}.{close} Macros of the gin files are set'
    ' with --gin.NAME=VALUE. --help lists the flags.'
  )


@contextlib.contextmanager
def user_errors_end_the_process() -> Iterator[None]:
  """Prints a user's mistake and exits; lets every other exception pass."""
  try:
    yield
  except Exception as e:
    code = getattr(e, 'exit_code', None)
    said: object = mistakes.about_missing_arguments(e)
    if code is None and not said:
      said = errors.memory_error(e) or files.storage_error(e)
    if said or str(e).startswith('Required bindings for'):
      code = errors.UserError.exit_code
    if code is None:
      raise
    logging.debug('A user error, raised here:', exc_info=True)
    shown = neutral.message(said or _GIN_TRAIL.sub('', str(e)))
    neutral.say(f'\nerror: {shown}', err=True)
    sys.exit(code)
