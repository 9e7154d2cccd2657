"""The layout of the code: packages with doors, and imports that run one way.

`FLOORS` is the picture of docs/design.md as data: every module and package of
the top level stands on a floor, and imports from its own floor or from lower
ones. Packages and modules of one floor may import each other in one direction
only, since no circle is allowed either.

The doors of a package are the names in `__all__` of its `__init__.py`: those of
functions and classes, which are used as `package.name`, and those of modules,
which may be imported from outside. All other modules are inner ones, which only
their own package imports, and the tests in the folder of the same name.
"""

import ast
import dataclasses
import functools
import json
import pathlib
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).parent.parent

# Lowest first.
FLOORS = {
  't5x': (
    ('errors', 'metrics', 'configs', 'neutral', 'binary_search'),
    ('files', 'losses', 'state_utils', 'distributed', 'decoding', 'examples'),
    ('partitioning', 'optimizers', 'data'),
    ('train_state', 'adafactor', 'checkpoints', 'checkpoint_importer'),
    ('models', 'gin_utils'),
    ('initialization', 'trainer', 'inference', 'cli'),
    ('run', 'interactive_model'),
    ('utils',),
    ('train', 'eval', 'infer', 'precompile'),
    ('main',),
  ),
  'dss_jax': (
    ('errors', 'neutral'),
    ('command_lines', 'sample', 'optimization'),
    ('config_filter', 'data', 'pretrained', 'run_config'),
    ('own_data', 'pipeline'),
    ('feature_converters', 'models', 'mixtures', 'vocabularies', 'questions'),
    ('report', 'student', 'training_data'),
    ('screen', 'commands', 'export', 'extract', 'plan', 'study', 'trackers'),
    ('training',),
    ('cli',),
  ),
}
# A package may import from itself and from those after it.
TREES = ('benchmarks', 'tasks', 'dss_jax', 't5x')
# T5X's name for a module that stands in a package.
ALSO_DOORS = {'t5x.adafactor': 't5x.optimizers.adafactor'}
# What a training step needs runs where there is neither TensorFlow nor SeqIO.
STEP_MODULES = (
  't5x.losses',
  't5x.examples.t5.network',
  't5x.decoding',
  't5x.partitioning',
  't5x.adafactor',
  't5x.optimizers',
  't5x.train_state',
  't5x.models',
  't5x.checkpoints',
  't5x.initialization',
  't5x.trainer',
)
MOST_MODULES = 16
MOST_LINES = 500


@dataclasses.dataclass(frozen=True)
class Import:
  """One module that a file imports.

  Attributes:
    path: the file, relative to the root.
    line: of the statement.
    module: the dotted name of the module.
  """

  path: str
  line: int
  module: str

  def __str__(self) -> str:
    return f'{self.path}:{self.line} imports {self.module}'


class Tree:
  """The modules below a root folder."""

  def __init__(self, root: pathlib.Path):
    self.root = root
    self.files = {
      path.relative_to(root).as_posix(): path
      for name in (*TREES, 'tests')
      for path in sorted((root / name).rglob('*.py'))
    }
    self.modules = {self.module_of(path): path for path in self.files}
    # What every check asks for is read once.
    self.imports = functools.cache(self._imports)
    self.doors = functools.cache(self._doors)

  @staticmethod
  def module_of(path: str) -> str:
    """`t5x/data/__init__.py` is t5x.data."""
    return path.removesuffix('.py').removesuffix('/__init__').replace('/', '.')

  def is_package(self, module: str) -> bool:
    return self.modules.get(module, '').endswith('__init__.py')

  def _imports(self, path: str) -> list[Import]:
    """Returns what a file has of our own modules, imported or as attributes.

    `from a import b` is a.b if that is a module, and `from a import b` followed
    by `b.c` is a.b.c as well: a package's modules are its attributes, too.
    """
    tree = ast.parse(self.files[path].read_text(encoding='utf-8'))
    used: list[tuple[int, str]] = []
    bound: dict[str, str] = {}
    for node in ast.walk(tree):
      if isinstance(node, ast.Import):
        for alias in node.names:
          used.append((node.lineno, alias.name))
          first = alias.name.partition('.')[0]
          bound[alias.asname or first] = alias.name if alias.asname else first
      elif isinstance(node, ast.ImportFrom):
        origin = self._origin(path, node)
        for alias in node.names:
          full = f'{origin}.{alias.name}'
          used.append((node.lineno, full if full in self.modules else origin))
          bound[alias.asname or alias.name] = full
    for node in ast.walk(tree):
      if isinstance(node, ast.Attribute):
        root, *rest = ast.unparse(node).split('.')
        full = '.'.join([bound.get(root, ''), *rest])
        if full in self.modules:
          used.append((node.lineno, full))
    return [
      Import(path, line, name)
      for line, name in dict.fromkeys(used)
      if name.partition('.')[0] in TREES
    ]

  def _origin(self, path: str, node: ast.ImportFrom) -> str:
    """The module that an import is from, also of a relative import."""
    if not node.level:
      return node.module or ''
    folder = path.split('/')[: -node.level]
    return '.'.join([*folder, *filter(None, [node.module])])

  def _doors(self, package: str) -> tuple[str, ...]:
    """The names in `__all__` of a package."""
    path = self.files[self.modules[package]]
    for node in ast.parse(path.read_text(encoding='utf-8')).body:
      if isinstance(node, ast.Assign) and node.targets[0].id == '__all__':
        return ast.literal_eval(node.value)
    return ()

  def closed_packages(self, module: str) -> list[str]:
    """The packages with doors that a module stands in, outermost first.

    Top-level packages, and those without an `__all__`, are open.
    """
    parts = module.split('.')
    outer = ['.'.join(parts[:n]) for n in range(2, len(parts))]
    return [
      name for name in outer if self.is_package(name) and self.doors(name)
    ]


def floor_of(module: str) -> int | None:
  """The floor of a module, or None if `FLOORS` does not know it."""
  tree, _, rest = module.partition('.')
  for number, names in enumerate(FLOORS[tree]):
    if rest.partition('.')[0] in names:
      return number
  return None


def unknown_modules(tree: Tree) -> list[str]:
  """Modules that have no floor, and floors of modules that are gone."""
  found = [
    f'{path}: stands on no floor of FLOORS'
    for module, path in tree.modules.items()
    if module.partition('.')[0] in FLOORS
    and '.' in module
    and floor_of(module) is None
  ]
  for name, floors in FLOORS.items():
    there = {m.split('.')[1] for m in tree.modules if m.startswith(f'{name}.')}
    gone = {n for floor in floors for n in floor} - there
    found += [f'FLOORS names {name}.{n}, which is not there' for n in gone]
  return found


def upward_imports(tree: Tree) -> list[str]:
  """Imports of a higher floor, or of a tree that may not be imported."""
  found = []
  for path in tree.files:
    own = path.partition('/')[0]
    if own == 'tests':
      continue
    for item in tree.imports(path):
      other = item.module.partition('.')[0]
      if TREES.index(other) < TREES.index(own):
        found.append(str(item))
      elif other == own and own in FLOORS:
        here, there = floor_of(tree.module_of(path)), floor_of(item.module)
        if here is not None and there is not None and there > here:
          found.append(str(item))
  return found


def _may_enter(path: str, package: str) -> bool:
  folder = package.replace('.', '/')
  return path.startswith((f'{folder}/', f'tests/{folder}/'))


def inner_imports(tree: Tree) -> list[str]:
  """Imports of an inner module from outside its package."""
  found = []
  for path in tree.files:
    for item in tree.imports(path):
      if ALSO_DOORS.get(tree.module_of(path)) == item.module:
        continue
      for package in tree.closed_packages(item.module):
        inside = item.module.removeprefix(f'{package}.').partition('.')[0]
        if inside not in tree.doors(package) and not _may_enter(path, package):
          found.append(f'{item}, which is no door of {package}')
  return found


def circles(tree: Tree) -> list[str]:
  """Packages of one tree that import each other, directly or by others."""
  arrows: dict[str, set[str]] = {}
  for path in tree.files:
    here = '.'.join(tree.module_of(path).split('.')[:2])
    for item in tree.imports(path):
      there = '.'.join(item.module.split('.')[:2])
      if here.partition('.')[0] in FLOORS and here != there and '.' in there:
        arrows.setdefault(here, set()).add(there)

  def reached(start: str) -> set[str]:
    seen, todo = set(), [start]
    while todo:
      for name in arrows.get(todo.pop(), ()):
        if name not in seen:
          seen.add(name)
          todo.append(name)
    return seen

  return [name for name in sorted(arrows) if name in reached(name)]


CHECKS = (unknown_modules, upward_imports, inner_imports, circles)


@pytest.fixture(scope='module')
def house():
  return Tree(_ROOT)


@pytest.mark.parametrize('check', CHECKS, ids=lambda c: c.__name__)
def test_the_layout_holds(check, house):
  assert check(house) == []


def _written(root: pathlib.Path, files: dict[str, str]) -> Tree:
  """A tree with every module of `FLOORS`, empty, and the given files."""
  for tree, floors in FLOORS.items():
    for name in (n for floor in floors for n in floor):
      path = root / tree / f'{name}.py'
      path.parent.mkdir(parents=True, exist_ok=True)
      path.touch()
  for name, text in files.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')
    (path.parent.with_suffix('.py')).unlink(missing_ok=True)
    (path.parent / '__init__.py').touch()
  return Tree(root)


_DATA = {
  't5x/data/__init__.py': "__all__ = ('snapshots', 'take')\n",
  't5x/data/snapshots.py': '',
  't5x/data/iterator.py': '',
}


@pytest.mark.parametrize(
  ('check', 'files', 'message'),
  [
    (
      unknown_modules,
      {'t5x/helpers.py': ''},
      't5x/helpers.py: stands on no floor',
    ),
    (
      upward_imports,
      {'t5x/losses.py': '\nfrom t5x import trainer\n'},
      't5x/losses.py:2 imports t5x.trainer',
    ),
    (
      upward_imports,
      {'t5x/train.py': 'def f():\n  import dss_jax.models\n'},
      't5x/train.py:2 imports dss_jax.models',
    ),
    (
      upward_imports,
      {'dss_jax/models.py': 'import tasks\n', 'tasks/cqa.py': ''},
      'dss_jax/models.py:1 imports tasks',
    ),
    (
      inner_imports,
      _DATA | {'t5x/train.py': 'from t5x.data import iterator\n'},
      't5x/train.py:1 imports t5x.data.iterator, which is no door of t5x.data',
    ),
    (
      inner_imports,
      _DATA | {'dss_jax/models.py': 'from t5x.data.iterator import x\n'},
      'dss_jax/models.py:1 imports t5x.data.iterator, which is no door',
    ),
    (
      inner_imports,
      _DATA | {'tests/t5x/test_eval.py': 'import t5x.data.iterator\n'},
      'tests/t5x/test_eval.py:1 imports t5x.data.iterator, which is no door',
    ),
    (
      inner_imports,
      _DATA
      | {'t5x/train.py': 'from t5x import data as d\nd.iterator.read()\n'},
      't5x/train.py:2 imports t5x.data.iterator, which is no door of t5x.data',
    ),
    (
      inner_imports,
      _DATA | {'t5x/train.py': 'import t5x.train\nt5x.data.iterator.read()\n'},
      't5x/train.py:2 imports t5x.data.iterator, which is no door of t5x.data',
    ),
    (
      inner_imports,
      _DATA | {'t5x/train.py': 'from .data import iterator\n'},
      't5x/train.py:1 imports t5x.data.iterator, which is no door of t5x.data',
    ),
    (
      circles,
      {
        't5x/losses.py': 'from t5x import files\n',
        't5x/files.py': 'from t5x import losses\n',
      },
      't5x.files',
    ),
  ],
  ids=[
    'unknown',
    'up_a_floor',
    'engine_to_method',
    'method_to_tasks',
    'inner',
    'inner_from_the_method',
    'inner_from_a_test',
    'inner_as_an_attribute',
    'inner_by_its_full_name',
    'inner_by_a_relative_import',
    'circle',
  ],
)
def test_what_breaks_the_layout_is_caught(tmp_path, check, files, message):
  assert check(_written(tmp_path, {})) == []
  found = check(_written(tmp_path, files))
  assert found and found[0].startswith(message)


def test_what_keeps_the_layout_passes(tmp_path):
  files = _DATA | {
    't5x/train.py': 'from t5x import data\nfrom t5x.data import snapshots\n',
    't5x/data/pipeline.py': 'from t5x.data import iterator\n',
    'tests/t5x/data/test_iterator.py': 'from t5x.data import iterator\n',
  }
  tree = _written(tmp_path, files)
  assert [check(tree) for check in CHECKS] == [[]] * len(CHECKS)


def test_a_folder_holds_what_one_glance_takes_in():
  tree = Tree(_ROOT)
  folders: dict[str, int] = {}
  for path in tree.files:
    folder, _, name = path.rpartition('/')
    if folder.startswith(('t5x', 'dss_jax')) and name != '__init__.py':
      folders[folder] = folders.get(folder, 0) + 1
  assert {f: n for f, n in folders.items() if n > MOST_MODULES} == {}


def test_a_module_is_one_concern():
  lines = {
    path: len(file.read_text(encoding='utf-8').splitlines())
    for path, file in Tree(_ROOT).files.items()
    if path.startswith(('t5x/', 'dss_jax/'))
  }
  assert {p: n for p, n in lines.items() if n > MOST_LINES} == {}


def test_doors_lead_somewhere():
  tree = Tree(_ROOT)
  packages = [m for m in tree.modules if tree.is_package(m)]
  names = {
    package: tree.doors(package)
    for package in packages
    if package.startswith(('t5x', 'dss_jax'))
  }
  code = (
    'import importlib, json, sys\n'
    'for package, names in json.loads(sys.argv[1]).items():\n'
    '  module = importlib.import_module(package)\n'
    '  for name in names:\n'
    '    if not hasattr(module, name):\n'
    "      importlib.import_module(f'{package}.{name}')\n"
  )

  done = subprocess.run(
    [sys.executable, '-c', code, json.dumps(names)],
    cwd=_ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr


def test_a_train_step_needs_neither_tensorflow_nor_seqio():
  code = (
    f'import sys, {", ".join(STEP_MODULES)}\n'
    "heavy = {'tensorflow', 'seqio'} & set(sys.modules)\n"
    'sys.exit(f"loaded: {heavy}" if heavy else 0)'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], cwd=_ROOT, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
