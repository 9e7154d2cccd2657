"""What gin's errors say of a user's mistake, in one message with a fix."""

import contextlib
import inspect
import re
import sys
import tokenize
from collections.abc import Iterator

import gin
from t5x import errors

# What Python says of a call that lacks arguments, and gin of a name that a
# module which a gin file imports does not have.
_MISSING = re.compile(r'missing \d+ required [\w-]+ arguments?: ([^\n]*)')
_NO_SELECTOR = re.compile(
  r"Couldn't resolve selector ([\w.]+); <module '([\w.]+)'.* has no attribute"
  r' (\w+)\.(.*)',
  re.DOTALL,
)
_NO_IMPORT = 'was not provided by an import statement'


@contextlib.contextmanager
def as_user_errors() -> Iterator[None]:
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


def about_missing_arguments(error: Exception) -> str | None:
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
