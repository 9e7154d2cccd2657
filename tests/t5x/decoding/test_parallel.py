"""Decoding gives the same on one device, and split by batch and by model."""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from t5x import decoding, partitioning, train_state
from t5x.decoding import cache
from tests.t5x import entry_points, tiny_model

# Decode function and its options.
_WAYS = {
  'beam': (decoding.beam_search, {}),
  'greedy': (decoding.temperature_sample, {'temperature': 0.0, 'topk': 1}),
  'topp': (decoding.temperature_sample, {'topk': 0, 'topp': 0.8}),
}


def _decode_all_ways(params, batch):
  """Every way of decoding, all decodes and scores, and the targets' scores."""
  found = {'score': tiny_model.model().score_batch(params, batch)}
  for name, (decode_fn, options) in _WAYS.items():
    model = tiny_model.model(decode_fn=functools.partial(decode_fn, **options))
    tokens, aux = model.predict_batch_with_aux(
      params,
      batch,
      rng=jax.random.key(5),
      num_decodes=2,
      return_all_decodes=True,
    )
    found[name] = tokens, aux['scores']
  return found


@pytest.fixture(scope='module')
def decode(tmp_path_factory):
  """Function of (devices, num_partitions)."""
  variables = tiny_model.initial_variables(tiny_model.model())
  state = train_state.InferenceState.create(variables)
  params, batch = jax.tree.map(np.asarray, (state.params, tiny_model.batch()))

  def run(devices, num_partitions):
    partitioner = partitioning.PjitPartitioner(
      num_partitions, devices=jax.devices()[:devices]
    )
    axes = partitioner.get_mesh_axes(state).params
    if num_partitions > 1:
      # Parameters do lie in parts.
      specs = jax.tree.leaves(axes)
      assert any('model' in spec for spec in specs)
    step = partitioner.partition(
      _decode_all_ways,
      in_axis_resources=(axes, PartitionSpec('data')),
      out_axis_resources=None,
    )
    return jax.tree.map(np.asarray, step(params, batch))

  with (
    entry_points.shared_compilation(tmp_path_factory.mktemp('compiled')),
    pytest.MonkeyPatch.context() as patch,
  ):
    # The cache grows on the way.
    patch.setattr(cache, '_SHORT', 3)
    yield run


@pytest.fixture(scope='module')
def on_one_device(decode):
  found = decode(devices=1, num_partitions=1)
  for name in _WAYS:
    tokens, scores = found[name]
    assert tokens.shape == (8, 2, 8) and scores.shape == (8, 2)
    assert np.all(np.diff(scores, axis=1) >= 0)
  # Sampling does sample.
  assert not np.array_equal(found['topp'][0], found['greedy'][0])
  return found


@pytest.mark.parametrize(
  'num_partitions',
  # Two rows of devices with four each; eight rows; four rows of two.
  [
    4,
    pytest.param(1, marks=pytest.mark.slow),
    pytest.param(2, marks=pytest.mark.slow),
  ],
)
def test_meshes_decode_alike(decode, on_one_device, num_partitions):
  found = decode(8, num_partitions)
  for name in _WAYS:
    for mine, expected in zip(found[name], on_one_device[name], strict=True):
      np.testing.assert_allclose(mine, expected, rtol=1e-4, err_msg=name)
  np.testing.assert_allclose(found['score'], on_one_device['score'], rtol=1e-5)


def test_decoding_with_a_cache_scores_as_a_full_pass_does(decode):
  """Beam search gives its best sequence the score that `score_batch` gives."""
  model = tiny_model.model()
  params = tiny_model.initial_variables(model)['params']
  batch = tiny_model.batch()

  @jax.jit
  def both(params):
    tokens, aux = model.predict_batch_with_aux(
      params, batch, decoder_params={'alpha': 0.0}
    )
    shifted = jax.numpy.pad(tokens, ((0, 0), (1, 0)))[:, :-1]
    said = {
      **batch,
      'decoder_target_tokens': tokens,
      'decoder_input_tokens': shifted,
      'decoder_loss_weights': (tokens != 0).astype('float32'),
    }
    return aux['scores'], model.score_batch(params, said)

  searched, scored = both(params)
  np.testing.assert_allclose(searched, scored, rtol=1e-4)
