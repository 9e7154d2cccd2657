"""Gin files and flags: parsed and checked, and the programs they configure."""

import contextlib
import inspect
import logging as std_logging
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

# What Python says of a call that lacks arguments, and gin of a name that a
# module which a gin file imports does not have.
_MISSING = re.compile(r'missing \d+ required [\w-]+ arguments?: ([^\n]*)')
_NO_SELECTOR = re.compile(
  r"Couldn't resolve selector ([\w.]+); <module '([\w.]+)'.* has no attribute"
  r' (\w+)\.(.*)',
  re.DOTALL,
)
_NO_IMPORT = 'was not provided by an import statement'
# Values of another type, as other languages and YAML write them.
_NOT_STRINGS = {
  'true': 'True', 'yes': 'True', 'on': 'True',
  'false': 'False', 'no': 'False', 'off': 'False',
  'none': 'None', 'null': 'None',
}  # fmt: skip
# What gin appends to an exception for each configurable that it came through.
_GIN_TRAIL = re.compile(r'\n+\s*In call to configurable.*', re.DOTALL)


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
  folders = [*gin_search_paths, *files.gin_files.search_paths()]
  for path in folders:
    gin.add_config_file_search_path(path)
  files.gin_files.check(gin_files, gin_search_paths)
  with _as_user_errors(), _without_search_log():
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


@contextlib.contextmanager
def _as_user_errors() -> Iterator[None]:
  """Turns gin's errors about what the user wrote into `UserError`s."""
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
      f'Gin configuration: {e}{_close_parameter(str(e))}{_close_name(str(e))}'
    ) from e
  except ImportError as e:
    raise errors.UserError(
      f'A gin file imports a module that does not exist: {e}'
    ) from e
  except (AttributeError, NameError) as e:
    message = _about_name(str(e))
    if message is None:
      raise  # From within a module that a gin file imports.
    raise errors.UserError(message) from e


def _about_name(message: str) -> str | None:
  """Returns what to say of a name that gin can't resolve, None for others."""
  found = _NO_SELECTOR.match(message)
  if found:
    selector, module, name, where = found.groups()
    close = errors.did_you_mean(name, dir(sys.modules[module]))
    return (
      f'Gin configuration: {selector}: the module {module} has no'
      f' {name!r}.{close}{where}'
    )
  if _NO_IMPORT in message:
    return (
      f'Gin configuration: {message} Add the import to the gin file that uses'
      ' the name; imports of other files do not count.'
    )
  return None


def _about_missing_arguments(error: Exception) -> str | None:
  """Returns what to say of a call by gin that lacks arguments, None else.

  Only if gin itself made the call: a mistake in the code is none of the user's.
  """
  found = isinstance(error, TypeError) and _MISSING.search(str(error))
  called = re.search(r"In call to configurable '([\w./]+)'", str(error))
  frame = error.__traceback__
  while frame is not None and frame.tb_next is not None:
    frame = frame.tb_next
  if not (found and called and frame):
    return None
  if frame.tb_frame.f_code.co_filename != gin.config.__file__:
    return None
  names = re.findall(r"'(\w+)'", found.group(1))
  bindings = ', '.join(f'{called.group(1)}.{name}' for name in names)
  return (
    f'Gin configuration: {called.group(1)} needs'
    f' {", ".join(map(repr, names))}, which nothing binds. Bind {bindings} in a'
    ' gin file or by --gin_bindings.'
  )


def check_values() -> None:
  """Makes the configured objects that check their values and read nothing.

  Those are the objects of classes with a true attribute `checked_by_dry_run`.
  """
  for scope, selector in list(gin.config._CONFIG):
    name = '/'.join(filter(None, (scope, selector)))
    configurable = gin.get_configurable(name)
    if getattr(configurable, 'checked_by_dry_run', False):
      configurable()


def _close_name(message: str) -> str:
  """Returns a did-you-mean for gin's message about an unknown configurable."""
  match = re.search(r"No configurable matching '([\w./]+)'", message)
  if not match:
    return ''
  # Names alone, without the scopes before them.
  known = re.findall(
    r'(?m)^(?:[\w./]+/)?([\w.]+?)(?:\.\w+ =|:$)', gin.config_str()
  )
  return errors.did_you_mean(match.group(1).rpartition('/')[2], known)


def _close_parameter(message: str) -> str:
  """Returns a did-you-mean for gin's message about an unknown parameter."""
  match = re.search(
    r"Configurable '([\w.]+)' doesn't have a parameter named '(\w+)'", message
  )
  if not match:
    return ''
  selector, parameter = match.groups()
  try:
    configurable = gin.get_configurable(selector)
  except KeyError:
    return ''  # Two modules have the name, and gin's message is of either.
  # Gin's wrapper of a class takes anything; its __init__ has the parameters.
  if inspect.isclass(configurable):
    configurable = configurable.__init__
  return errors.did_you_mean(
    parameter, inspect.signature(configurable).parameters
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
    said: object = _about_missing_arguments(e)
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
