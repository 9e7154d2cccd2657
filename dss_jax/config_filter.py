"""Filter of a run's config.gin: keeps what describes its model, and no more.

A gin file can call whatever can be imported. A run's folder that somebody else
made is data, so commands that only read it take, of its configuration, the
values and the few names that make up a model.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from dss_jax.errors import DataError
from gin import config_parser
from t5x import errors
from t5x.cli import gin_reader

# Module to the names in it that a model is made of.
_ALLOWED = {
  'dss_jax.models': r'\w*Model',
  'dss_jax.vocabularies': 'vocabulary',
  'seqio': r'\w*Vocabulary',
  't5x.decoding': 'beam_search|temperature_sample',
  't5x.examples.scalable_t5.network': 'Transformer|T5Config',
  't5x.examples.t5.network': 'Transformer|T5Config',
  't5x.models': r'\w*Model|DecoderParams',
  't5x.utils': 'round_vocab_size_to_multiple',
}
# Arguments of a model that train or decode, which describes nothing of it.
_DECODING = {'decode_fn', 'default_decoder_params'}
_NOT_READ = {'optimizer_def', 'feature_converter_cls', *_DECODING}
_HEADER = ('from __gin__ import dynamic_registration', 'import __main__')
_MAIN = '__main__'


class _Config:
  """The statements of a config.gin, by what they are about."""

  def __init__(self, text: str, place: str):
    self.place = place
    self.imports: dict[str, config_parser.ImportStatement] = {}
    self.macros: dict[str, config_parser.BindingStatement] = {}
    self.bindings: list[config_parser.BindingStatement] = []
    try:
      statements = gin_reader.statements(text, place)
    except errors.UserError as error:
      raise DataError(str(error)) from error
    for statement in statements:
      self._add(statement)

  def _add(self, statement: Any) -> None:
    if isinstance(statement, config_parser.ImportStatement):
      if statement.module != '__gin__.dynamic_registration':
        self.imports[statement.bound_name()] = statement
    elif isinstance(statement, config_parser.BindingStatement):
      if statement.arg_name:
        self.bindings.append(statement)
      else:
        self.macros[_joined(statement.scope, statement.selector)] = statement
    elif isinstance(statement, config_parser.IncludeStatement):
      raise DataError(
        f'{self.place}: expected a configuration in one file, as a run writes'
        f' it; found an include of {statement.filename!r}.'
      )

  def full_name(self, name: str) -> tuple[str, str]:
    """Returns the module and the rest of a name, its scopes left out."""
    bound, _, rest = name.rpartition('/')[2].partition('.')
    statement = self.imports.get(bound)
    if statement is None:
      return bound, rest
    if statement.is_from or statement.alias:
      return statement.module, rest
    # `import a.b` is used as a.b.c.
    module, _, attribute = f'{bound}.{rest}'.rpartition('.')
    return module, attribute


def model_only(
  text: str, place: str, allow: Sequence[str] = (), decoding: str = 'not read'
) -> str:
  """Returns a gin file with the values of a config.gin and its model.

  Nothing is imported or called for it.

  Args:
    text: of the config.gin of a run.
    place: its path, for messages.
    allow: further modules whose names the model may use.
    decoding: whether what decodes the model's answers is kept as well: 'not
      read', 'if known', or 'always', as if it were a part of the model.

  Raises:
    DataError: it is no gin file, or its model uses another name.
  """
  not_read = _NOT_READ if decoding == 'not read' else _NOT_READ - _DECODING
  config = _Config(text, place)
  lines, used = [], {'__main__'}
  for name, macro in config.macros.items():
    if not any(
      isinstance(x, gin_reader.Reference) for x in _leaves(macro.value)
    ):
      lines.append(f'{name} = {macro.value!r}')
  seen: set[str] = set()
  waiting = [
    binding
    for binding in config.bindings
    if config.full_name(binding.selector) == (_MAIN, 'train')
    and binding.arg_name == 'model'
  ]
  while waiting:
    binding = waiting.pop()
    key = _key(binding)
    if key in seen:
      continue
    seen.add(key)
    value = binding.value
    is_unknown = binding.arg_name in _DECODING and not _is_ours(config, value)
    if decoding == 'if known' and is_unknown:
      continue
    if binding.arg_name in not_read:
      if binding.arg_name != 'optimizer_def':
        continue
      value = None
    if binding.arg_name or _has_references(value):
      lines.append(f'{key} = {value!r}')
    for leaf in _leaves(value):
      if isinstance(leaf, gin_reader.MacroReference):
        waiting += [config.macros[leaf.name]] * (leaf.name in config.macros)
      elif isinstance(leaf, gin_reader.Reference):
        module, name = config.full_name(leaf.name)
        _check(config, binding, module, name, allow)
        used.add(leaf.name.rpartition('/')[2].partition('.')[0])
        waiting += [
          other
          for other in config.bindings
          if config.full_name(other.selector) == (module, name)
        ]
  imports = [
    statement.format()
    for bound, statement in config.imports.items()
    if bound in used or statement.module == _MAIN
  ]
  header = _HEADER if not any('__main__' in i for i in imports) else _HEADER[:1]
  return '\n'.join([*header, *imports, *lines]) + '\n'


def _is_ours(config: _Config, value: Any) -> bool:
  """Whether all names of a value are such as run no foreign code."""
  names = (
    x.name for x in _leaves(value) if isinstance(x, gin_reader.Reference)
  )
  return all(
    re.fullmatch(_ALLOWED.get(module, ''), name)
    for module, name in map(config.full_name, names)
  )


def _check(
  config: _Config,
  binding: config_parser.BindingStatement,
  module: str,
  name: str,
  allow: Sequence[str],
) -> None:
  """Raises DataError unless a name may be used."""
  simple = name.isidentifier()
  if simple and re.fullmatch(_ALLOWED.get(module, ''), name):
    return
  if simple and any(f'{module}.'.startswith(f'{given}.') for given in allow):
    return
  raise DataError(
    f'{config.place}:{binding.location.line_num}: expected a model of names'
    f' that run no foreign code, found @{module}.{name}. If you trust that'
    f' folder, allow for the module: --allow {module}.'
  )


def _key(binding: config_parser.BindingStatement) -> str:
  name = _joined(binding.scope, binding.selector)
  return f'{name}.{binding.arg_name}' if binding.arg_name else name


def _joined(scope: str, selector: str) -> str:
  return f'{scope}/{selector}' if scope else selector


def _has_references(value: Any) -> bool:
  return any(isinstance(leaf, gin_reader.Reference) for leaf in _leaves(value))


def _leaves(value: Any) -> Iterator[Any]:
  """Yields the values within lists, tuples and dicts."""
  if isinstance(value, (gin_reader.Reference, gin_reader.MacroReference)):
    yield value
  elif isinstance(value, dict):
    for pair in value.items():
      yield from _leaves(list(pair))
  elif isinstance(value, (list, tuple)):
    for item in value:
      yield from _leaves(item)
  else:
    yield value
