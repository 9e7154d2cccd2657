"""Study files: a grid as YAML, as users write it and as a study keeps it.

    experiment: cqa
    data: release
    methods: [finetune, dss]
    fractions: [0.125, 0.25, 0.5, 1]
    seeds: 4
    set:
      LEARNING_RATE: 1e-4
    out: studies/cqa

The keys are the options of `dss study`, and `experiment` its argument.
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import yaml

from dss_jax import errors
from dss_jax.data import text_files
from dss_jax.study import grid as grid_lib
from t5x import files

NAME = 'study.yaml'
ENDINGS = ('.yaml', '.yml')
# What a study file may hold beside a grid.
_ELSE = ('out',)
# Of the entries of a grid: what a list of each holds, and what a value is.
_LISTS = {
  'methods': str,
  'fractions': float,
  'sizes': str,
  'labels': str,
  'teachers': str,
  'kinds': str,
  'alphas': float,
  'gin_file': str,
}
_VALUES = {
  'experiment': str,
  'data': str,
  'out': str,
  'seeds': int,
  'steps': int,
  'rationales': bool,
}
_WORDS = {str: 'a text', float: 'a number', int: 'a whole number'}


def load(path: pathlib.Path) -> dict[str, Any]:
  """Returns the options that a study file gives, checked one by one.

  Args:
    path: the file.

  Raises:
    DataError: it can't be read, or an option is unknown or of another kind.
  """
  content = text_files.read_yaml(str(path), 'a study file')
  if not isinstance(content, dict):
    raise errors.DataError(
      f'{path}: expected options such as `methods: [finetune, dss]`, found'
      f' {type(content).__name__}.'
    )
  known = [*_fields(), *_ELSE]
  for name in content:
    if name not in known:
      raise errors.DataError(
        f'{path}: {name!r} is no option: expected some of {", ".join(known)}.'
        f'{errors.did_you_mean(name, known)}'
      )
  return {
    name: _read(f'{path}: {name}', name, value)
    for name, value in content.items()
    if value is not None
  }


def _fields() -> list[str]:
  return [field.name for field in dataclasses.fields(grid_lib.Grid)]


def _read(place: str, name: str, value: Any) -> Any:
  if name in _LISTS:
    values = value if isinstance(value, list) else [value]
    return tuple(_converted(place, v, _LISTS[name]) for v in values)
  if name == 'set':
    if not isinstance(value, dict):
      raise errors.DataError(
        f'{place}: expected lines such as `LEARNING_RATE: 1e-4` below it,'
        f' found {value!r:.60}.'
      )
    return {str(k): _setting(f'{place}: {k}', v) for k, v in value.items()}
  return _converted(place, value, _VALUES[name])


def _setting(place: str, value: Any) -> str:
  try:
    return grid_lib.gin_value(value)
  except errors.DataError as error:
    raise errors.DataError(f'{place}: {error}') from error


def _converted(place: str, value: Any, kind: type) -> Any:
  """Returns a value of a kind; a whole number is a number, too."""
  if kind is float and type(value) is int:
    value = float(value)
  if kind is float and isinstance(value, str):
    with contextlib.suppress(ValueError):
      value = float(value)  # YAML takes 1e-3 for a text.
  if type(value) is not kind:
    expected = _WORDS.get(kind, 'true or false')
    raise errors.DataError(
      f'{place}: expected {expected}, found {value!r:.60}.'
    )
  return value


def dump(grid: grid_lib.Grid, out: pathlib.Path) -> None:
  """Writes a grid as `study.yaml` in a study's folder, at once.

  Args:
    grid: what is asked for.
    out: the folder.
  """
  options: dict[str, Any] = {}
  for name in _fields():
    value = getattr(grid, name)
    if isinstance(value, tuple):
      value = list(value)
    if isinstance(value, Mapping):
      value = dict(value)
    if value not in (None, [], {}):
      options[name] = value
  text = yaml.safe_dump(options, sort_keys=False, allow_unicode=True)
  with files.replacing(out / NAME) as work:
    work.write_text(
      f'# What `dss study` was asked for; the same file asks again:\n'
      f'# dss study {NAME} --out FOLDER\n{text}'
    )


def grid_of(options: Mapping[str, Any]) -> grid_lib.Grid:
  """Returns the grid of the options of a file, or of file and command.

  Args:
    options: with or without those that a grid does not have.
  """
  return grid_lib.Grid(**{k: v for k, v in options.items() if k not in _ELSE})


def stored(out: pathlib.Path) -> grid_lib.Grid | None:
  """Returns the grid that a study's folder was made for, if there is one.

  Args:
    out: the folder.

  Raises:
    DataError: its `study.yaml` is not as `dump` writes it.
  """
  path = out / NAME
  if not path.exists():
    return None
  options = load(path)
  if 'experiment' not in options:
    raise errors.DataError(
      f'{path}: expected a line such as `experiment: cqa`, as `dss study` wrote'
      ' it, found none. Put it back, or give another --out.'
    )
  return grid_of(options)
