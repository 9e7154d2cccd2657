"""Tests of t5x.losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x import errors, losses
from tests import golden_data

Factor = losses.SpecialLossNormalizingFactor


def random_case(seed=0, shape=(2, 5), vocab=7):
  rng = np.random.default_rng(seed)
  logits = rng.normal(size=(*shape, vocab)).astype(np.float32) * 3
  return logits, rng.integers(0, vocab, shape), rng.uniform(size=shape)


@pytest.mark.parametrize('name', ['t5x_1_1', 't5x_1_0'])
def test_loss_equals_t5x_for_every_smoothing_and_z_loss(name):
  golden = golden_data.load(name)
  assert len(golden.facts['loss']) == 4
  for key, expected in golden.facts['loss'].items():
    smoothing, z_loss = (float(part.split('=')[1]) for part in key.split(','))
    found = losses.compute_weighted_cross_entropy(
      golden.logits,
      golden.batch['decoder_target_tokens'],
      golden.batch['decoder_loss_weights'],
      label_smoothing=smoothing,
      z_loss=z_loss,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize('name', ['t5x_1_1', 't5x_1_0'])
def test_score_of_a_batch_equals_t5x(name):
  golden = golden_data.load(name)
  loss, _ = losses.token_cross_entropy(
    golden.logits, golden.batch['decoder_target_tokens']
  )
  scores = -jnp.sum(loss * golden.batch['decoder_loss_weights'], axis=-1)
  np.testing.assert_allclose(scores, golden.decode['score_batch'], rtol=1e-5)


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
@pytest.mark.parametrize('z_loss', [0.0, 0.01])
def test_token_ids_and_soft_targets_have_one_loss_and_gradient(
  smoothing, z_loss
):
  logits, targets, _ = random_case()
  vocab = logits.shape[-1]
  low = smoothing / (vocab - 1)
  soft = np.where(
    np.arange(vocab) == targets[..., None], 1 - smoothing, low
  ).astype(np.float32)
  entropy = -np.sum(soft * np.log(np.where(soft == 0, 1, soft)), axis=-1)

  def by_ids(x):
    return losses.token_cross_entropy(
      x, targets, label_smoothing=smoothing, z_loss=z_loss
    )

  def by_distribution(x):
    loss, z = losses.cross_entropy_with_logits(x, soft, z_loss)
    return loss - entropy, z

  for found, expected in zip(
    by_ids(logits), by_distribution(logits), strict=True
  ):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
  grads = [
    jax.grad(lambda x, f=f: f(x)[0].sum())(logits)
    for f in (by_ids, by_distribution)
  ]
  np.testing.assert_allclose(grads[0], grads[1], rtol=1e-4, atol=1e-6)
  # Softmax minus target, and the z-loss's own part.
  log_z = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
  expected = jax.nn.softmax(logits) * (1 + 2 * z_loss * log_z) - soft
  np.testing.assert_allclose(grads[0], expected, rtol=1e-4, atol=1e-6)


def test_gradient_of_the_targets_is_minus_the_log_probability():
  logits, _, _ = random_case()
  soft = jax.nn.softmax(jnp.asarray(logits[::-1]))
  grad = jax.grad(
    lambda t: losses.cross_entropy_with_logits(logits, t, 0.0)[0].sum()
  )(soft)
  np.testing.assert_allclose(
    grad, -jax.nn.log_softmax(logits), rtol=1e-5, atol=1e-6
  )


def test_a_perfect_smoothed_prediction_has_loss_zero():
  vocab, smoothing = 9, 0.2
  probs = np.full((1, vocab), smoothing / (vocab - 1))
  probs[0, 4] = 1 - smoothing
  loss, _ = losses.token_cross_entropy(
    logits=np.log(probs), targets=np.array([4]), label_smoothing=smoothing
  )
  np.testing.assert_allclose(loss, 0.0, atol=1e-6)


def test_huge_logits_stay_finite_and_bfloat16_is_summed_in_float32():
  logits = np.array([[1e4, -1e4, 0.0]], np.float32)
  loss, grad = jax.value_and_grad(
    lambda x: losses.token_cross_entropy(x, np.array([0]))[0].sum()
  )(logits)
  assert loss == 0 and np.all(np.isfinite(grad))
  # 4,096 equal bfloat16 logits: a bfloat16 sum would stop at 256.
  flat = jnp.zeros((1, 4096), jnp.bfloat16)
  loss, _ = losses.token_cross_entropy(flat, np.array([3]))
  assert loss.dtype == jnp.float32
  np.testing.assert_allclose(loss, np.log(4096), rtol=1e-6)


def test_weights_and_factor_scale_the_sums_but_not_the_weight_sum():
  logits, targets, weights = random_case()
  each, z_each = losses.token_cross_entropy(logits, targets, z_loss=0.1)
  loss, z, weight_sum = losses.compute_weighted_cross_entropy(
    logits, targets, weights, z_loss=0.1, loss_normalizing_factor=4.0
  )
  np.testing.assert_allclose(loss, np.sum(each * weights) / 4, rtol=1e-5)
  np.testing.assert_allclose(z, np.sum(z_each * weights) / 4, rtol=1e-5)
  np.testing.assert_allclose(weight_sum, np.sum(weights), rtol=1e-6)
  loss, _, weight_sum = losses.compute_weighted_cross_entropy(logits, targets)
  np.testing.assert_allclose(
    loss, np.sum(losses.token_cross_entropy(logits, targets)[0]), rtol=1e-6
  )
  assert weight_sum == targets.size


def test_backward_pass_saves_no_second_array_of_the_logits_size():
  logits, targets, _ = random_case(shape=(4, 8), vocab=64)
  _, pullback = jax.vjp(
    lambda x: losses.token_cross_entropy(
      x, targets, label_smoothing=0.1, z_loss=1e-4
    )[0].sum(),
    jnp.asarray(logits),
  )
  saved = [
    x
    for x in jax.tree.leaves(pullback)
    if x.size == logits.size and x.dtype == jnp.float32
  ]
  assert len(saved) == 1


BATCH = {
  'decoder_target_tokens': jnp.array([[6, 7, 8, 9, 3, 4, 0]]),
  'decoder_loss_weights': jnp.array([[1.0, 1, 1, 1, 1, 1, 0]]),
  'decoder_segment_ids': jnp.array([[1, 1, 1, 1, 2, 2, 0]]),
}


@pytest.mark.parametrize('factor', [None, 3, 2.5])
def test_numbers_and_none_are_handed_back(factor):
  found, weights = losses.get_loss_normalizing_factor_and_weights(factor, BATCH)
  assert found == factor and weights is BATCH['decoder_loss_weights']
  _, weights = losses.get_loss_normalizing_factor_and_weights(
    factor, {'decoder_target_tokens': BATCH['decoder_target_tokens']}
  )
  assert weights is None


@pytest.mark.parametrize(
  'factor, expected, expected_weights',
  [
    (Factor.NUM_REAL_TARGET_TOKENS, 6, [1, 1, 1, 1, 1, 1, 0]),
    ('num_real_target_tokens', 6, [1, 1, 1, 1, 1, 1, 0]),
    ('NUM_TOTAL_TARGET_TOKENS', 7, [1, 1, 1, 1, 1, 1, 0]),
    ('AVERAGE_PER_SEQUENCE', 2, [1 / 4] * 4 + [1 / 2] * 2 + [0]),
  ],
)
def test_special_factors(factor, expected, expected_weights):
  found, weights = losses.get_loss_normalizing_factor_and_weights(factor, BATCH)
  assert float(found) == expected
  np.testing.assert_allclose(weights[0], expected_weights)


def test_average_per_sequence_without_packing_averages_rows():
  batch = {
    'decoder_target_tokens': jnp.array(
      [[5, 6, 1, 0], [0, 0, 0, 0], [7, 0, 0, 0]]
    )
  }
  found, weights = losses.get_loss_normalizing_factor_and_weights(
    Factor.AVERAGE_PER_SEQUENCE, batch
  )
  # A row of padding is no sequence, and divides nothing by zero.
  assert float(found) == pytest.approx(2)
  np.testing.assert_allclose(
    weights, [[1 / 3, 1 / 3, 1 / 3, 0], [0] * 4, [1, 0, 0, 0]], rtol=1e-6
  )


def test_the_share_of_a_token_follows_the_weights_of_its_sequence():
  batch = {
    'decoder_target_tokens': jnp.array([[5, 6, 7, 8, 1]]),
    'decoder_loss_weights': jnp.array([[1.0, 3.0, 0.5, 1.5, 0.0]]),
    'decoder_segment_ids': jnp.array([[1, 1, 2, 2, 2]]),
  }
  factor, weights = losses.get_loss_normalizing_factor_and_weights(
    'AVERAGE_PER_SEQUENCE', batch
  )
  assert factor == 2
  np.testing.assert_allclose(weights, [[0.25, 0.75, 0.25, 0.75, 0.0]])


def test_special_factors_have_t5x_numbers():
  # Checkpoints and notebooks may hold them.
  assert [factor.value for factor in Factor] == [1, 2, 3]


def test_a_misspelt_factor_is_corrected():
  with pytest.raises(
    errors.UserError, match="Did you mean 'AVERAGE_PER_SEQUENCE'"
  ):
    losses.convert_special_loss_normalizing_factor_to_enum(
      'average_per_sequences'
    )


def test_shapes_that_do_not_fit_are_refused():
  logits, targets, weights = random_case()
  with pytest.raises(ValueError, match='Use token_cross_entropy'):
    losses.cross_entropy_with_logits(logits, targets, 0.0)
  # Not one that would be repeated, either.
  with pytest.raises(ValueError, match='Use token_cross_entropy'):
    losses.cross_entropy_with_logits(logits[:1], logits, 0.0)
  with pytest.raises(ValueError, match=r'expected shape \(2, 5\)'):
    losses.token_cross_entropy(logits, targets[:, :3])
  with pytest.raises(ValueError, match=r'expected shape \(1, 5\)'):
    losses.token_cross_entropy(logits[:1], targets)
  with pytest.raises(ValueError, match=r'weights: expected shape \(2, 5\)'):
    losses.compute_weighted_cross_entropy(logits, targets, weights[:1])
  for smoothing in (-0.5, 1.0, 1.5):
    with pytest.raises(ValueError, match=f'expected .*found {smoothing}'):
      losses.token_cross_entropy(logits, targets, label_smoothing=smoothing)


def test_is_argmax_agrees_with_argmax_also_on_ties_and_nan():
  rng = np.random.default_rng(0)
  # Few different values, so that most rows have ties.
  logits = rng.integers(-3, 1, (200, 7)).astype(np.float32)
  logits[:9, 2] = np.nan
  logits[9:30] = -np.inf  # All masked: argmax takes the first.
  targets = rng.integers(0, 7, 200)
  expected = np.argmax(logits, -1) == targets
  expected[:9] = False  # A NaN is no prediction.
  found = losses.is_argmax(jnp.asarray(logits), jnp.asarray(targets))
  np.testing.assert_array_equal(found, expected)
  assert 0 < expected[9:30].sum() <= expected.sum() < len(expected)


def test_a_profile_says_where_the_loss_is():
  logits, targets, _ = random_case()
  for f in (losses.token_cross_entropy, losses.is_argmax):
    lowered = jax.jit(f).lower(logits, targets)
    assert '(f)/loss/' in lowered.as_text(debug_info=True).replace(
      f'({f.__name__})', '(f)'
    )


def test_padding_is_no_sequence_even_if_it_has_weight():
  batch = {
    'decoder_target_tokens': jnp.array([[5, 6, 7, 8]]),
    'decoder_loss_weights': jnp.ones((1, 4)),
    'decoder_segment_ids': jnp.array([[1, 1, 0, 0]]),
  }
  factor, weights = losses.get_loss_normalizing_factor_and_weights(
    'AVERAGE_PER_SEQUENCE', batch
  )
  assert factor == 1 and weights.tolist() == [[0.5, 0.5, 0, 0]]
