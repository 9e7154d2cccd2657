"""The configuration of mutation runs: mutation.toml, read and resolved."""

import dataclasses
import fnmatch
import pathlib
import re
import tomllib
from collections.abc import Mapping, Sequence

ROOT = pathlib.Path(__file__).parents[2]
FILE = pathlib.Path(__file__).with_name('mutation.toml')


@dataclasses.dataclass(frozen=True)
class Config:
  """What mutation.toml says; see the comments there.

  Attributes:
    areas: `modules` and `without` of each area, as patterns of paths.
    tests: `modules`, `near` and `far` of each kind of module.
    excluded_operators: patterns of names.
    unread: what a statement begins with that no mutant is planted in.
    cpu_seconds: of the processor, for one run of tests …
    cpu_seconds_per_file: … and so many more for each of its files.
    wall_seconds: of the clock, for one run of tests.
  """

  areas: Mapping[str, Mapping[str, Sequence[str]]]
  tests: Sequence[Mapping]
  excluded_operators: Sequence[str]
  unread: re.Pattern[str]
  cpu_seconds: int
  cpu_seconds_per_file: int
  wall_seconds: int


def load() -> Config:
  """Returns the configuration."""
  with FILE.open('rb') as file:
    read = tomllib.load(file)
  return Config(
    areas=read['areas'],
    tests=read['tests'],
    excluded_operators=read['excluded-operators'],
    unread=re.compile(read['unread']),
    cpu_seconds=read['cpu-seconds'],
    cpu_seconds_per_file=read['cpu-seconds-per-file'],
    wall_seconds=read['wall-seconds'],
  )


def modules_of(config: Config, area: str, root: pathlib.Path) -> list[str]:
  """Returns the paths of an area's modules, relative to the root.

  Raises:
    FileNotFoundError: a pattern of the area matches no module.
  """
  taken: dict[str, None] = {}
  for pattern in config.areas[area]['modules']:
    paths = sorted(p.relative_to(root).as_posix() for p in root.glob(pattern))
    if not paths:
      raise FileNotFoundError(f'areas.{area}: no module matches {pattern}')
    taken.update(dict.fromkeys(paths))
  without = config.areas[area].get('without', ())
  return [p for p in taken if p not in without and '__init__' not in p]


def _files(names: Sequence[str], root: pathlib.Path) -> list[str]:
  found: list[str] = []
  for name in names:
    path = root / 'tests' / name
    if not path.exists():
      raise FileNotFoundError(f'mutation.toml names tests/{name}')
    paths = sorted(path.rglob('test_*.py')) if path.is_dir() else [path]
    found += [p.relative_to(root).as_posix() for p in paths]
  return list(dict.fromkeys(found))


def tests_of(
  config: Config, module: str, root: pathlib.Path
) -> tuple[list[str], list[str], list[str]]:
  """Returns a module's own test file, if it has one, those near it, and far.

  Args:
    config: which has them.
    module: path of a module.
    root: of the repository.

  Raises:
    FileNotFoundError: a test file that the configuration names isn't there.
    LookupError: no pattern matches the module, or it has no test.
  """
  folder, _, name = module.rpartition('/')
  for entry in config.tests:
    if fnmatch.fnmatch(module, entry['modules']):
      there = (root / 'tests' / folder / f'test_{name}').exists()
      own = _files([f'{folder}/test_{name}'] if there else [], root)
      near = [f for f in _files(entry['near'], root) if f not in own]
      far = _files(entry['far'], root)
      if own or near:
        return own, near, [f for f in far if f not in own + near]
  raise LookupError(f'mutation.toml has no tests near {module}')
