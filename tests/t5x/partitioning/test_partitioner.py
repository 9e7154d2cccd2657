"""Meshes, rules, layouts, and functions run on a mesh."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from flax.linen import partitioning as flax_partitioning
from jax.sharding import NamedSharding, PartitionSpec

from t5x import adafactor, errors, optimizers, partitioning, train_state
from t5x.partitioning import mesh as mesh_lib
from t5x.partitioning import partitioner as partitioner_lib
from tests.t5x import tiny_model
from tests.t5x.partitioning.test_host_shards import Device

P = PartitionSpec


def mesh_axes(names, **dims):
  return flax_partitioning.logical_to_mesh_axes(
    names, partitioning.standard_logical_axis_rules(**dims)
  )


@pytest.mark.parametrize(
  ('activation', 'parameter', 'weight', 'stream'),
  [
    (1, 1, P(None, 'model'), P('data', None, None)),
    (2, 1, P(None, 'model'), P('data', None, 'model')),
    (1, 2, P('data', 'model'), P('data', None, None)),
    (2, 2, P('data', 'model'), P('data', None, 'model')),
  ],
)
def test_rules_split_as_in_t5x(activation, parameter, weight, stream):
  dims = {
    'activation_partitioning_dims': activation,
    'parameter_partitioning_dims': parameter,
  }
  assert mesh_axes(('embed', 'mlp'), **dims) == weight
  assert mesh_axes(('batch', 'length', 'embed'), **dims) == stream
  assert mesh_axes(('heads', 'relpos_buckets'), **dims) == P('model', None)
  assert mesh_axes(('vocab', 'embed'), **dims)[0] == 'model'


def test_additional_rules_come_last():
  rules = partitioning.standard_logical_axis_rules(
    additional_rules=[('expert', 'data')]
  )
  assert rules[-1] == ('expert', 'data')


def test_kernels_are_gathered_where_they_are_split_over_data():
  for dims in ({}, {'activation_partitioning_dims': 2}):
    parameters = 2 if dims else 1
    with pytest.raises(errors.UserError, match=f'found {parameters} and'):
      partitioning.standard_logical_axis_rules(
        parameter_partitioning_dims=parameters, gather_kernels=True, **dims
      )
  plain = partitioning.standard_logical_axis_rules(1, 2)
  gathering = partitioning.standard_logical_axis_rules(
    1, 2, [('more', None)], gather_kernels=True
  )
  added = [('gathered_embed', None), ('more', None)]
  assert sorted(set(gathering) - set(plain)) == added
  assert gathering[-1] == ('more', None)


def test_partitioning_dims_are_one_or_two():
  with pytest.raises(errors.UserError, match='expected 1 or 2, found 3'):
    partitioning.standard_logical_axis_rules(parameter_partitioning_dims=3)


@pytest.mark.parametrize('n', [1, 2, 8])
def test_num_partitions_is_the_extent_of_the_model_axis(n):
  mesh = partitioning.PjitPartitioner(num_partitions=n).mesh
  assert dict(mesh.shape) == {'data': 8 // n, 'model': n}
  assert sorted(d.id for d in mesh.devices.flat) == list(range(8))


def test_num_partitions_must_divide_the_devices():
  with pytest.raises(
    errors.UserError,
    match=r'num_partitions=3 does not divide the 8 devices .*\[1, 2, 4, 8\]',
  ):
    _ = partitioning.PjitPartitioner(num_partitions=3).mesh


def test_the_extent_of_the_model_axis_is_required():
  with pytest.raises(errors.UserError, match='Set num_partitions'):
    partitioning.PjitPartitioner()


def test_parameters_off_the_devices_are_refused():
  with pytest.raises(errors.UserError, match='params_on_devices=False'):
    partitioning.PjitPartitioner(num_partitions=1, params_on_devices=False)


def test_a_submesh_tiles_the_devices():
  mesh = partitioning.PjitPartitioner(model_parallel_submesh=(1, 4)).mesh
  ids = [[d.id for d in row] for row in mesh.devices]
  assert ids == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize('submesh', [(1, 3), (2, 1, 1, 1)])
def test_a_submesh_that_does_not_tile_is_refused(submesh):
  with pytest.raises(errors.UserError, match=r'extent is \(1, 8\)'):
    _ = partitioning.PjitPartitioner(model_parallel_submesh=submesh).mesh


def test_a_tpu_submesh_is_a_block_of_coordinates():
  class Chip:
    def __init__(self, x, y, core):
      self.coords, self.core_on_chip = (x, y, 0), core

  chips = [Chip(x, y, c) for x in range(4) for y in range(2) for c in range(2)]
  places = mesh_lib.tile_places(
    mesh_lib.hardware_coordinates(chips), (2, 1, 1, 2)
  )
  blocks = [
    [(chips[i].coords, chips[i].core_on_chip) for i in row] for row in places
  ]
  assert len(blocks) == 4
  assert blocks[0] == [
    ((0, 0, 0), 0),
    ((0, 0, 0), 1),
    ((1, 0, 0), 0),
    ((1, 0, 0), 1),
  ]


def test_mesh_shapes_give_both_extents():
  mesh = partitioning.PjitPartitioner(ici_mesh_shape=(2, 4)).mesh
  assert dict(mesh.shape) == {'data': 2, 'model': 4}


def test_mesh_shapes_must_use_all_devices():
  with pytest.raises(errors.UserError, match='needs 6 devices, found 8'):
    _ = partitioning.PjitPartitioner(ici_mesh_shape=(2, 3)).mesh


def test_given_devices_are_the_mesh():
  partitioner = tiny_model.one_device()
  assert list(partitioner.mesh.devices.flat) == jax.devices()[:1]


def test_one_host_reads_all_rows():
  partitioner = partitioning.PjitPartitioner(num_partitions=2)
  assert partitioner.get_data_layout(16) == partitioning.DataLayout(
    batch_size=16, shard_id=0, num_shards=1, is_first_host_in_replica_set=True
  )
  assert (partitioner.data_shards, partitioner.data_shard_id) == (1, 0)
  assert partitioner.data_mesh_size == 4
  info = partitioner.get_local_chunk_info((8, 4), ['data', 'model'])
  assert info == partitioning.LocalChunkInfo((slice(0, 8), slice(0, 4)), 0)


def test_a_batch_that_the_mesh_does_not_divide_is_refused():
  partitioner = partitioning.PjitPartitioner(num_partitions=2)
  match = (
    r"Batch size 6 is not divisible by 4: .*'data': 4, 'model': 2.* has 4 data"
    r' shards. Set BATCH_SIZE to a multiple of 4, such as 8'
  )
  with pytest.raises(errors.UserError, match=match):
    partitioner.get_data_layout(6)
  for rows in (np.zeros((6, 2)), jnp.zeros((6, 2))):
    with pytest.raises(errors.UserError, match=match):
      partitioner.shard_batch({'x': rows})
  with pytest.raises(errors.UserError, match=r'times 2 micro.*such as 8'):
    partitioner.check_batch_size(1, 2)


def test_hosts_that_read_halves_make_whole_arrays(monkeypatch):
  partitioner = partitioning.PjitPartitioner(num_partitions=2)
  placed = []
  monkeypatch.setattr(
    jax,
    'make_array_from_process_local_data',
    lambda sharding, x, shape: placed.append((x.shape, shape)),
  )
  vars(partitioner)['data_shards'] = 2
  partitioner.shard_batch({'x': np.zeros((6, 3))})
  assert placed == [((6, 3), (12, 3))]


def test_a_sharded_batch_is_split_over_data():
  partitioner = partitioning.PjitPartitioner(num_partitions=2)
  x = np.arange(16).reshape(8, 2)
  placed = partitioner.shard_batch({'x': x, 'nested': {'y': x + 1}})
  assert placed['x'].sharding.spec == P('data')
  assert placed['x'].addressable_shards[0].data.shape == (2, 2)
  np.testing.assert_array_equal(placed['nested']['y'], x + 1)
  again = partitioner.shard_batch(placed)
  assert again['x'].sharding == placed['x'].sharding


def test_none_means_replicated():
  partitioner = partitioning.PjitPartitioner(num_partitions=2)
  fn = partitioner.partition(lambda x, y: (x + y, y), (P('data'), None), None)
  out, y = fn(np.ones((8, 2)), np.ones((8, 2)))
  assert out.sharding.is_fully_replicated
  assert y.sharding.is_fully_replicated
  np.testing.assert_array_equal(out, 2 * np.ones((8, 2)))


def test_static_and_donated_arguments():
  partitioner = partitioning.PjitPartitioner(num_partitions=2)
  fn = partitioner.partition(
    lambda n, x: x * n, (P('data'),), P('data'), 0, donate_argnums=1
  )
  x = jax.device_put(
    np.ones((8, 2), np.float32), NamedSharding(partitioner.mesh, P('data'))
  )
  np.testing.assert_array_equal(fn(3, x), 3 * np.ones((8, 2)))
  assert x.is_deleted()


def test_logical_constraints_apply_inside():
  partitioner = partitioning.PjitPartitioner(
    num_partitions=2,
    logical_axis_rules=partitioning.standard_logical_axis_rules(2, 1),
  )
  seen = []

  def fn(x):
    y = flax_partitioning.with_sharding_constraint(x + 1, ('batch', 'embed'))
    jax.debug.inspect_array_sharding(y, callback=seen.append)
    return partitioning.with_sharding_constraint(y, P())

  compiled = partitioner.compile(
    partitioner.partition(fn, (None,), None),
    jax.ShapeDtypeStruct((8, 4), np.float32),
  )
  out = compiled(jnp.zeros((8, 4)))
  np.testing.assert_array_equal(out, np.ones((8, 4)))
  assert seen[0].shard_shape((8, 4)) == (2, 2)


@dataclasses.dataclass(frozen=True)
class Chip(Device):
  """A device with a place."""

  coords: tuple[int, ...] = (0, 0, 0)
  core_on_chip: int = 0


def test_only_tpus_compiler_is_asked_for_more_unless_it_is_said():
  def options(platform, **more):
    device = Chip(0, 0, platform=platform)
    return partitioning.PjitPartitioner(
      num_partitions=1, devices=[device], **more
    ).compiler_options

  wanted = {'xla_tpu_prefer_async_allgather_to_allreduce': True}
  assert options('tpu') == wanted
  assert options('cpu') == options('gpu') == {}
  assert options('tpu', compiler_options={}) == {}
  assert options('cpu', compiler_options={'a': True}) == {'a': True}


def test_options_reach_the_compiler_which_has_to_know_what_is_given(
  monkeypatch, caplog
):
  def compiled(**options):
    partitioner = partitioning.PjitPartitioner(
      num_partitions=1, compiler_options=options or None
    )
    doubled = partitioner.partition(lambda x: 2 * x, (None,), None)
    return partitioner.compile(doubled, jax.ShapeDtypeStruct((2,), np.float32))

  assert compiled(xla_cpu_enable_fast_math=True)(jnp.ones(2)).tolist() == [2, 2]
  with pytest.raises(jax.errors.JaxRuntimeError, match='not a valid bool'):
    compiled(xla_cpu_enable_fast_math='maybe')
  with pytest.raises(errors.UserError, match="option: 'xla_no_such_thing'"):
    compiled(xla_no_such_thing=True)
  assert not caplog.records
  # What nobody asked for is left out: a CPU's compiler has no option of TPU's.
  monkeypatch.setattr(
    partitioning.PjitPartitioner,
    'compiler_options',
    partitioner_lib.TPU_OPTIONS,
  )
  with caplog.at_level('WARNING', 'absl'):
    assert compiled()(jnp.ones(2)).tolist() == [2, 2]
  assert 'does not know all of xla_tpu_prefer_async_allgather' in caplog.text


def test_a_constraint_without_a_mesh_does_nothing():
  x = jnp.ones(3)
  assert partitioning.with_sharding_constraint(x, P('data')) is x


def _state_axes(optimizer_def, dims):
  model = tiny_model.model(optimizer_def)
  shapes = jax.eval_shape(lambda: tiny_model.state(model))
  partitioner = partitioning.PjitPartitioner(
    num_partitions=2,
    logical_axis_rules=partitioning.standard_logical_axis_rules(
      parameter_partitioning_dims=dims
    ),
  )
  return partitioner.get_mesh_axes(shapes)


@pytest.mark.parametrize('dims', [1, 2])
def test_optimizer_state_is_split_as_its_parameters(dims):
  embed = 'data' if dims == 2 else None
  axes = _state_axes(adafactor.Adafactor(beta1=0.9), dims)
  wi = axes.params['encoder']['layers_0']['mlp']['wi_0']['kernel']
  assert wi == P(embed, 'model')
  kept = axes.param_states['encoder']['layers_0']['mlp']['wi_0']['kernel']
  assert (kept.v, kept.m, kept.v_row) == (wi, wi, None)
  axes = _state_axes(optimizers.adamw(1e-3), dims)
  adam = axes.param_states[0]
  assert adam.mu == axes.params and adam.nu == axes.params
  assert adam.count is None and axes.step is None


def test_a_factored_moment_has_the_axes_that_are_left():
  axes = _state_axes(adafactor.Adafactor(min_dim_size_to_factor=8), 2)
  kept = axes.param_states['encoder']['layers_0']['mlp']['wi_0']['kernel']
  # Shape (embed 16, mlp 32): the larger one is averaged out of v_row.
  assert (kept.v_row, kept.v_col, kept.v) == (P('data'), P('model'), None)


def test_an_inference_state_has_axes_too():
  model = tiny_model.model()
  shapes = jax.eval_shape(
    lambda: train_state.InferenceState.create(
      tiny_model.initial_variables(model)
    )
  )
  axes = partitioning.PjitPartitioner(num_partitions=2).get_mesh_axes(shapes)
  flat = traverse_util.flatten_dict(axes.params, sep='/')
  assert flat['token_embedder/embedding'] == P('model', None)


def test_a_dimension_that_the_mesh_does_not_divide_is_refused():
  model = tiny_model.model(config={'mlp_dim': 33})
  shapes = jax.eval_shape(lambda: tiny_model.state(model))
  partitioner = partitioning.PjitPartitioner(num_partitions=2)
  with pytest.raises(
    errors.UserError,
    match=r"decoder/layers_0/mlp/wi_0/kernel.*: dimension 'mlp' of shape"
    r' \(16, 33\) is not divisible by 2',
  ):
    partitioner.get_mesh_axes(shapes)


def test_a_misspelt_mesh_axis_is_refused():
  with pytest.raises(errors.UserError, match="Did you mean 'model'"):
    partitioning.PjitPartitioner(
      num_partitions=1, logical_axis_rules=[('mlp', 'modle')]
    )


def test_a_backend_that_is_not_here_is_an_error_or_left():
  partitioner = partitioning.PjitPartitioner(num_partitions=1, backend='tpu')
  with pytest.raises(errors.UserError, match=r"backend: .*'tpu'.*'cpu'.*None"):
    _ = partitioner.mesh
  assert partitioner.leave_missing_backend() == 'tpu'
  assert partitioner.mesh.devices.size == jax.device_count()
  assert partitioner.leave_missing_backend() is None
  # Devices that are given are of their own backend.
  partitioner = partitioning.PjitPartitioner(
    num_partitions=1, backend='tpu', devices=jax.devices()[:2]
  )
  assert partitioner.leave_missing_backend() is None
  assert partitioner.mesh.devices.size == 2
  assert partitioner.params_on_devices is True


def _named(*names):
  """A state of one matrix whose axes have these names."""
  axes = flax_partitioning.AxisMetadata(P(*names))
  return train_state.InferenceState.create(
    {'params': {'w': jnp.zeros((2, 4))}, 'params_axes': {'w_axes': axes}}
  )


def test_names_without_a_rule_are_told_and_split_nothing(caplog):
  partitioner = partitioning.PjitPartitioner(num_partitions=2)
  with caplog.at_level('WARNING', 'absl'):
    assert partitioner.get_mesh_axes(_named(None, 'mlp')).params == {
      'w': P(None, 'model')
    }
    assert not caplog.records
    axes = partitioner.get_mesh_axes(_named('embed', 'mpl'))
  (told,) = caplog.records
  assert told.getMessage() == (
    "params/w: no rule for logical axis 'mpl', so it is not split."
    " Did you mean 'mlp'?"
  )
  assert axes.params == {'w': P(None, None)}


@pytest.mark.parametrize('names', [('mlp',), ('embed', 'kv', 'mlp')])
def test_every_dimension_has_a_name(names):
  partitioner = partitioning.PjitPartitioner(num_partitions=2)
  with pytest.raises(
    errors.UserError,
    match=rf'params/w: .*name {len(names)} dim.*shape \(2, 4\)',
  ):
    partitioner.get_mesh_axes(_named(*names))


def test_the_standard_rules_are_a_list_of_pairs():
  rules = partitioning.standard_logical_axis_rules(
    additional_rules=(('expert', 'data'),)
  )
  assert isinstance(rules, list) and rules[-1] == ('expert', 'data')
  assert ('mlp', 'model') in rules
