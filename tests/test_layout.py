"""The layout of the code: imports run one way, light stays light."""

import ast
import pathlib
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).parent.parent

# Lowest first. A module may import from its own layer and from lower ones.
_LAYERS = (
  ('errors',),
  ('losses', 'examples.t5.layers', 'schedules', 'metrics'),
  ('examples.t5.network', 'decode_cache', 'beam', 'decoding'),
  ('mesh', 'data_layout', 'partitioning', 'adafactor', 'optimizers'),
  ('train_state', 'base_models', 'models'),
  (
    'actions',
    'metric_writers',
    'numerics',
    'processes',
    'run_identity',
    'stopping',
    'storage',
    'train_step',
    'compiled_steps',
    'trainer',
    'checkpoints',
    'checkpoint_base',
    'checkpoint_config',
    'checkpoint_layouts',
    'checkpoint_matching',
    'checkpoint_restore',
    'checkpoint_retention',
    'huggingface',
    'lazy_arrays',
    'legacy_checkpoints',
    'orbax_checkpoints',
    'state_utils',
    'threefry',
    'batched_draws',
    'initialization',
    'feature_lengths',
    'data_checks',
    'pipeline_snapshots',
    'position_files',
    'train_iterator',
    'datasets',
    'length_batches',
    'inference',
    'model_info',
    'tools',
    'evaluators',
  ),
  ('utils',),
  (
    'gin_utils',
    'entry',
    'usage',
    'progress',
    'loop',
    'infer_files',
    'interactive_examples',
  ),
  ('train', 'commands', 'eval', 'infer', 'precompile', 'interactive_model'),
  ('main',),
)
_STEP_MODULES = (
  't5x.losses',
  't5x.examples.t5.network',
  't5x.decoding',
  't5x.partitioning',
  't5x.adafactor',
  't5x.optimizers',
  't5x.train_state',
  't5x.models',
  't5x.trainer',
)


def _imports(path: pathlib.Path) -> set[str]:
  """Modules that a file imports, `from a import b` as both a and a.b."""
  names = set()
  for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and node.module:
      names.add(node.module)
      names |= {f'{node.module}.{alias.name}' for alias in node.names}
  return names


def _rank(module: str) -> int | None:
  for rank, names in enumerate(_LAYERS):
    if module in names:
      return rank
  return None


def _files(package: str) -> list[pathlib.Path]:
  return sorted((_ROOT / package).rglob('*.py'))


@pytest.mark.parametrize('path', _files('t5x'), ids=lambda p: p.stem)
def test_the_engine_imports_only_from_lower_layers(path):
  module = '.'.join(path.relative_to(_ROOT / 't5x').with_suffix('').parts)
  rank = _rank(module)
  for name in _imports(path):
    assert not name.startswith(('dss_jax', 'tasks')), name
    other = _rank(name.removeprefix('t5x.')) if name.startswith('t5x') else None
    if rank is not None and other is not None:
      assert other <= rank, f'{module} imports {name}'


@pytest.mark.parametrize('path', _files('dss_jax'), ids=lambda p: p.stem)
def test_the_method_does_not_import_the_tasks(path):
  assert not any(n.split('.')[0] == 'tasks' for n in _imports(path))


def test_a_train_step_needs_neither_tensorflow_nor_seqio():
  code = (
    f'import sys, {", ".join(_STEP_MODULES)}\n'
    "heavy = {'tensorflow', 'seqio'} & set(sys.modules)\n"
    'sys.exit(f"loaded: {heavy}" if heavy else 0)'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], cwd=_ROOT, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
