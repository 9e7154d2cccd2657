"""Gin files as they are written, without their configurables."""

from gin import config_parser


class Written(str):
  """A reference in a gin file, which prints as it is written."""

  def __repr__(self):
    return str(self)


class _AsWritten(config_parser.ParserDelegate):
  def configurable_reference(self, scoped_configurable_name, evaluate):
    return Written(f'@{scoped_configurable_name}{"()" * evaluate}')

  def macro(self, macro_name):
    return Written(f'%{macro_name}')


def bindings(text: str) -> list[tuple[str, str, str]]:
  """Returns (scoped selector, parameter or '', value as it is written)."""
  found = []
  for line in config_parser.ConfigParser(text, _AsWritten()):
    if isinstance(line, config_parser.BindingStatement):
      selector = '/'.join(filter(None, (line.scope, line.selector)))
      found.append((selector, line.arg_name or '', repr(line.value)))
  return found


def imports(text: str) -> dict[str, str]:
  """Returns the name that a file gives a module, to the module."""
  return {
    (line.alias or line.module.rpartition('.')[2]): line.module
    for line in config_parser.ConfigParser(text, _AsWritten())
    if isinstance(line, config_parser.ImportStatement)
  }
