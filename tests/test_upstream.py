"""The experiments use nothing of `t5x` that upstream T5X doesn't have.

`tests/golden/t5x_names.txt` lists T5X's public names, and `t5x_interface.txt`
their arguments. The commands of `dss`, `gin/engine` and `gin/slices` use our
engine, and are left out.
"""

import ast
import pathlib
import re

import pytest

from tests import gin_text

_ROOT = pathlib.Path(__file__).parents[1]
_GOLDEN = _ROOT / 'tests' / 'golden'
_NAMES = set((_GOLDEN / 't5x_names.txt').read_text().split())
_MODULES = {name.rsplit('.', 1)[0] for name in _NAMES} | {'t5x'}
# What `dss` does on its own: it needs the engine.
_COMMANDS = (
  'cli.py', 'commands', 'config_filter.py', 'export', 'extract', 'plan',
  'report', 'student', 'study', 'training',
)  # fmt: skip
_CODE = sorted(
  path
  for folder in ('dss_jax', 'tasks')
  for path in (_ROOT / folder).rglob('*.py')
  if path.relative_to(_ROOT / folder).parts[0] not in _COMMANDS
)
_GIN = sorted(
  path
  for path in (_ROOT / 'gin').rglob('*.gin')
  # The paper's recipe and the layouts have options of our engine.
  if path.parent.name not in ('engine', 'paper', 'slices')
)
# What a gin file imports as `__main__`.
_PROGRAMS = {
  'train_script': 't5x.train',
  'eval_script': 't5x.eval',
  'infer_script': 't5x.infer',
}


def _of(path) -> str:
  return path.relative_to(_ROOT).as_posix()


def _arguments() -> dict[str, list[str]]:
  """Returns T5X's callables, to their arguments; `name=default` if it has."""
  found, module = {}, ''
  for line in (_GOLDEN / 't5x_interface.txt').read_text().splitlines():
    if line.startswith('['):
      module = line.strip('[]')
    elif line and not line.startswith(' ') and '(' in line:
      name, _, arguments = line.partition('(')
      found[f'{module}.{name}'] = arguments.removesuffix(')').split()
  return found


_ARGUMENTS = _arguments()


def _is_ours(module: str | None) -> bool:
  return (module or '').partition('.')[0] == 't5x'


def names_in_code(text: str) -> set[str]:
  """Returns the dotted names below `t5x` that Python code imports or uses."""
  tree, bound, found = ast.parse(text), {}, set()
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      for alias in node.names:
        if _is_ours(alias.name):
          found.add(alias.name)
          bound[alias.asname or 't5x'] = alias.name if alias.asname else 't5x'
    elif isinstance(node, ast.ImportFrom) and _is_ours(node.module):
      for alias in node.names:
        bound[alias.asname or alias.name] = f'{node.module}.{alias.name}'
        found.add(f'{node.module}.{alias.name}')
  for node in ast.walk(tree):
    if isinstance(node, ast.Attribute):
      root, *rest = ast.unparse(node).split('.')
      if root in bound:
        found.add('.'.join([bound[root], *rest]))
  return found


def names_in_gin(text: str) -> set[tuple[str, str]]:
  """Returns (dotted name, parameter or '') of what a gin file uses of `t5x`."""
  modules = gin_text.imports(text)
  found = set()
  for selector, parameter, value in gin_text.bindings(text):
    used = [(selector, parameter)]
    used += [(name, '') for name in re.findall(r'@([\w./]+)', value)]
    for name, of in used:
      root, _, rest = name.rpartition('/')[2].partition('.')
      module = _PROGRAMS.get(root, modules.get(root, ''))
      if _is_ours(module):
        found.add((f'{module}.{rest}', of))
  return found


def _unknown(names) -> list[str]:
  return sorted(n for n in names if n not in _NAMES | _MODULES)


@pytest.mark.parametrize('path', _CODE, ids=_of)
def test_the_method_uses_no_name_that_upstream_lacks(path):
  assert _unknown(names_in_code(path.read_text())) == []


@pytest.mark.parametrize('path', _GIN, ids=_of)
def test_an_experiment_binds_nothing_that_upstream_lacks(path):
  used = names_in_gin(path.read_text())
  assert _unknown(name for name, _ in used) == []
  for name, parameter in used:
    takes = [a.partition('=')[0] for a in _ARGUMENTS.get(name, ())]
    assert not parameter or parameter in takes, f'{name}.{parameter}'


@pytest.mark.parametrize(
  ('file', 'function'),
  [
    ('dss.gin', 't5x.train.train'),
    ('dss_eval.gin', 't5x.eval.evaluate'),
    ('dss_infer.gin', 't5x.infer.infer'),
  ],
)
def test_every_argument_that_upstream_requires_is_bound(file, function):
  required = {a for a in _ARGUMENTS[function] if '=' not in a}
  bound = {p for name, p in names_in_gin((_ROOT / 'gin' / file).read_text())
           if name == function}  # fmt: skip
  assert 'model' in required and required - bound == set()


def test_what_upstream_lacks_is_caught():
  code = (
    'from t5x import losses as l\nl.is_argmax(l.is_argmax)\nimport t5x.files\n'
  )
  assert _unknown(names_in_code(code)) == ['t5x.files', 't5x.losses.is_argmax']
  text = (
    'from __gin__ import dynamic_registration\n'
    'import __main__ as train_script\n'
    'from t5x.examples.t5 import network\n'
    'from t5x import utils\n'
    'a/network.T5Config.scan_layers = @utils.no_such()\n'
    'train_script.train.model = %MODEL\n'
  )
  used = names_in_gin(text)
  assert used == {
    ('t5x.examples.t5.network.T5Config', 'scan_layers'),
    ('t5x.utils.no_such', ''),
    ('t5x.train.train', 'model'),
  }
  assert _unknown(name for name, _ in used) == ['t5x.utils.no_such']
  takes = _ARGUMENTS['t5x.examples.t5.network.T5Config']
  assert not any(a.startswith('scan_layers') for a in takes)
