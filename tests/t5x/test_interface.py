"""Every name of T5X's interface is here, with its arguments and defaults.

`tests/golden/t5x_interface.txt` lists them, a module in brackets, a callable a
line, members of a class indented:

    DatasetConfig(mixture_or_task_name … use_cached=False …)
      .property
      .method(argument=None)

`=@name` is a default that is a function or a class of this name. Arguments of
our own may follow T5X's. What an option does is tested with its module; what
this engine doesn't do raises, which is tested here.
"""

import importlib
import inspect
import pathlib
import re

import jax
import numpy as np
import pytest
from flax.core import FrozenDict
from jax.sharding import PartitionSpec

import t5x.train
from t5x import checkpoints, data, errors, models, partitioning, utils
from tests.t5x import toy_model

_TABLE = pathlib.Path(__file__).parents[1] / 'golden' / 't5x_interface.txt'
# Arguments that every flax module has.
_OF_FLAX = {'self', 'cls', 'parent', 'name'}
# Two kinds of checkpointers, whose T5X counterparts name these two arguments in
# different orders, share one method. Nobody passes the fourth by position.
_IN_ANOTHER_ORDER = {'Checkpointer.restore'}
# Refused when it is made, so that its methods are never called.
_REFUSED = 'DecoderOnlyModel.'


def _modules() -> dict[str, list[tuple[str, str | None]]]:
  """Module to (dotted name, arguments or None for a property)."""
  found: dict[str, list[tuple[str, str | None]]] = {}
  module = owner = ''
  for line in _TABLE.read_text().splitlines():
    if line.startswith('['):
      module = line.strip('[]')
      found[module] = []
    elif line:
      name, is_callable, arguments = line.strip().partition('(')
      if line.startswith('  '):
        name = owner + name
      else:
        owner = name
      arguments = arguments.removesuffix(')') if is_callable else None
      found[module].append((name, arguments))
  return found


_MODULES = _modules()


def _names(default) -> str:
  """How the table writes a default that is no literal."""
  name = getattr(default, '__qualname__', None) or type(default).__name__
  if 'FACTORY' in type(default).__name__.upper():
    return '@factory'
  return '@' + name.split('.')[0]


def _check_default(where: str, written: str, found) -> None:
  assert found is not inspect.Parameter.empty, f'{where} has a default in T5X'
  if written == '@object':
    return
  if written.startswith('@'):
    assert _names(found) == written, where
    return
  scope = {'FrozenDict': FrozenDict, 'P': PartitionSpec, 'np': np}
  if re.match(r"'.*\*.*'", written):
    found = found.replace(' ', '')
  assert found == eval(written, scope), where  # The table is our own file.


def _check(module, name: str, arguments: str | None) -> None:
  value = module
  for part in name.split('.'):
    known = part in getattr(value, '__annotations__', {})
    assert hasattr(value, part) or known, f'{module.__name__}.{name}'
    value = getattr(value, part, None)
  if arguments is None or (inspect.isclass(value) and not arguments):
    return
  ours = dict(inspect.signature(value).parameters)
  expected = [a.partition('=')[::2] for a in arguments.split()]
  for argument, default in expected:
    argument = argument.lstrip('*')
    where = f'{module.__name__}.{name}({argument})'
    assert argument in ours, where
    if default:
      _check_default(where, default, ours[argument].default)
  wanted = [argument.lstrip('*') for argument, _ in expected]
  order = [a for a in ours if a in wanted]
  if name not in _IN_ANOTHER_ORDER:
    assert order == wanted, f'{module.__name__}.{name}'
  # An argument of our own must not be asked of a user of T5X.
  for argument in ours.keys() - set(wanted) - _OF_FLAX:
    parameter = ours[argument]
    optional = parameter.default is not inspect.Parameter.empty
    gathers = parameter.kind in (
      inspect.Parameter.VAR_POSITIONAL,
      inspect.Parameter.VAR_KEYWORD,
    )
    assert optional or gathers, f'{module.__name__}.{name}({argument})'


@pytest.mark.parametrize('name', _MODULES)
def test_a_module_has_what_t5x_users_know(name):
  assert _MODULES[name]
  module = importlib.import_module(name)
  for member, arguments in _MODULES[name]:
    if not member.startswith(_REFUSED):
      _check(module, member, arguments)


def test_the_entry_points_have_t5xs_flags():
  from absl import flags

  from t5x.cli import flags as flags_lib

  if 'gin_file' not in flags.FLAGS:
    flags_lib.define_flags()
  assert set(flags.FLAGS) >= {
    'gin_file',
    'gin_search_paths',
    'gin_bindings',
    'dry_run',
    'tfds_data_dir',
    'seqio_additional_cache_dirs',
    'multiprocess_gpu',
    'coordinator_address',
    'process_count',
    'process_index',
    'run_mode',
  }


def _dataset_config(**options):
  return data.DatasetConfig(
    'task', {'inputs': 1}, 'train', 8, True, 0, **options
  )


def _checkpointer(folder):
  state = toy_model.state(toy_model.ToyModel())
  return checkpoints.Checkpointer(state, toy_model.partitioner(), folder)


# What is not supported: how a user would ask for it, and what they are told.
_UNSUPPORTED = {
  'a decoder-only model': (
    lambda _: models.DecoderOnlyModel(None, None, None),
    'DecoderOnlyModel is not supported.*EncoderDecoderModel',
  ),
  'parameters off the devices': (
    lambda _: partitioning.PjitPartitioner(1, params_on_devices=False),
    'params_on_devices=False is not supported',
  ),
  'local devices of a mesh': (
    lambda _: partitioning.get_mesh(
      (1, 1), input_local_devices=jax.devices()[:1]
    ),
    'input_local_devices',
  ),
  'preprocessors of Grain': (
    lambda _: _dataset_config(runtime_preprocessors=[len]),
    'runtime_preprocessors is an option of Grain',
  ),
  'threads of Grain': (
    lambda _: _dataset_config(num_prefetch_threads=2),
    'num_prefetch_threads is an option of Grain',
  ),
  'workers of Grain': (
    lambda _: _dataset_config(num_workers=2),
    'num_workers is an option of Grain',
  ),
  'a position that the dataset finds': (
    lambda _: utils.get_dataset(
      _dataset_config(), 0, 1, None, continue_from_last_checkpoint=True
    ),
    'continue_from_last_checkpoint=True. is not supported',
  ),
  'a bound on concurrent writing': (
    lambda folder: _checkpointer(folder).save(None, concurrent_gb=1),
    'concurrent_gb=1 is not supported',
  ),
  'a Mesh TensorFlow checkpoint': (
    lambda folder: _checkpointer(folder).restore_from_tf_checkpoint('there'),
    'Mesh TensorFlow checkpoints are not supported',
  ),
  'converting a Mesh TensorFlow checkpoint': (
    lambda folder: _checkpointer(folder).convert_from_tf_checkpoint('there'),
    'Mesh TensorFlow checkpoints are not supported',
  ),
  'a tree as it lies in the checkpoint': (
    lambda _: checkpoints.load_t5x_checkpoint('there', remap=False),
    'remap=False is not supported',
  ),
}


@pytest.mark.parametrize('what', _UNSUPPORTED)
def test_what_is_not_supported_says_so(what, tmp_path):
  ask, message = _UNSUPPORTED[what]
  with pytest.raises(errors.UserError, match=message):
    ask(str(tmp_path))


def test_a_gin_file_may_name_what_is_not_supported(tmp_path):
  """It is refused when it is made, by the sentence, not by gin."""
  import gin
  from tests.t5x import entry_points

  file = tmp_path / 'decoder_only.gin'
  file.write_text(
    'from __gin__ import dynamic_registration\n'
    'from t5x import models\n'
    'models.DecoderOnlyModel.z_loss = 0.1\n'
    'models.DecoderOnlyModel.inputs_bidirectional_attention = True\n'
  )
  with entry_points.main_module(t5x.train):
    entry_points.parse([file])
    with pytest.raises(errors.UserError, match='DecoderOnlyModel is not'):
      gin.get_configurable(models.DecoderOnlyModel)()
