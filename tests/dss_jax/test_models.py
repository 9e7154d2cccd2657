"""The loss is the weighted sum of two means, and every term is reported."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dss_jax import models, optimization
from dss_jax.errors import DataError
from dss_jax.pipeline import packing
from t5x import decoding
from t5x import metrics as t5x_metrics
from t5x import models as t5x_models
from t5x.examples.t5 import network

VOCAB = 32
CONFIG = network.T5Config(
  vocab_size=VOCAB,
  emb_dim=16,
  num_heads=2,
  num_encoder_layers=1,
  num_decoder_layers=1,
  head_dim=4,
  mlp_dim=16,
  mlp_activations=('gelu', 'linear'),
  dropout_rate=0.2,
)


def make_model(**kwargs):
  return models.DistillModel(
    module=network.Transformer(CONFIG),
    input_vocabulary=None,
    output_vocabulary=None,
    optimizer_def=optimization.adamw(1e-3),
    **kwargs,
  )


def of_logits(**kwargs):
  """A model whose batches bring what the network gives, which takes long."""
  model = make_model(**kwargs)
  model._compute_logits = lambda params, batch, rng: batch['logits']
  return model


@functools.cache
def compiled(**kwargs):
  """Loss and metrics of a batch, compiled once for each kind of model."""
  return jax.jit(of_logits(**kwargs).eval_fn)


def evaluate(batch, **kwargs):
  """Loss and metrics of a batch with the inputs of `make_batch`."""
  return compiled(**kwargs)({}, batch | {'logits': logits()})


@functools.cache
def with_network():
  """Loss and metrics of a batch, all of it."""
  return jax.jit(make_model().eval_fn)


@functools.cache
def make_batch():
  """Four packed rows with more rationale than label tokens."""
  rng = np.random.default_rng(0)
  lengths = rng.integers(3, 7, 20)
  tasks = rng.integers(1, 3, (20, 1)).astype(np.int32)
  target_lengths = np.where(tasks[:, 0] == 1, 2, rng.integers(4, 8, 20))

  def ragged(lengths):
    values = rng.integers(2, VOCAB, lengths.sum()).astype(np.int32)
    starts = np.cumsum(lengths) - lengths
    return packing.Ragged(values, starts[:, None], lengths[:, None])

  batch = packing.pack(
    ragged(lengths), ragged(target_lengths), tasks, (32, 24), rng
  )
  assert {1, 2} == set(batch['decoder_task_ids'][:4].ravel()) - {0}
  return {name: jnp.asarray(rows[:4]) for name, rows in batch.items()}


@functools.cache
def params():
  model = make_model()
  shapes = {name: rows.shape for name, rows in make_batch().items()}

  def init(rng):
    return model.get_initial_variables(rng, shapes)['params']

  return jax.jit(init)(jax.random.key(0))


@functools.cache
def logits_of():
  return jax.jit(
    lambda params, batch: make_model()._compute_logits(params, batch)
  )


@functools.cache
def logits():
  """What the network gives for the packed batch."""
  return logits_of()(params(), make_batch())


@functools.cache
def log_probs():
  """Log probabilities and log-partition of the packed batch, in float64."""
  of_tokens = np.asarray(logits(), np.float64)
  log_z = np.log(np.exp(of_tokens).sum(-1))
  return of_tokens - log_z[..., None], log_z


def task_means(smoothing=0.0):
  """Label and rationale mean of the cross entropy, by the formula."""
  batch = make_batch()
  logp, _ = log_probs()
  low = smoothing / (VOCAB - 1)
  truth = np.eye(VOCAB)[batch['decoder_target_tokens']]
  truth = truth * (1 - smoothing - low) + low
  entropy = -np.where(truth > 0, truth * np.log(np.maximum(truth, 1e-99)), 0)
  losses = -(truth * logp).sum(-1) - entropy.sum(-1)
  tasks = np.asarray(batch['decoder_task_ids'])
  return losses[tasks == 1].mean(), losses[tasks == 2].mean()


def values(metrics):
  metrics = t5x_metrics.set_time_metrics_duration(metrics, 2.0)
  computed = t5x_metrics.compute_values(metrics)
  return {name: float(value.value) for name, value in computed.items()}


def test_docstring_weights():
  batch = {
    'decoder_target_tokens': jnp.array([[5, 6, 1, 7, 1, 0]]),
    'decoder_loss_weights': jnp.array([[1, 1, 1, 1, 1, 0]]),
    'decoder_task_ids': jnp.array([[1, 1, 1, 2, 2, 0]]),
  }
  weights = make_model(alpha=0.4).token_weights(batch)
  expected = [[0.4 / 3, 0.4 / 3, 0.4 / 3, 0.3, 0.3, 0]]
  np.testing.assert_allclose(weights, expected, rtol=1e-6)
  # Without weights, all but padding counts.
  tokens = {'decoder_target_tokens': batch['decoder_target_tokens']}
  weights = make_model(method='finetune').token_weights(tokens)
  np.testing.assert_allclose(weights, [[0.2] * 5 + [0]], rtol=1e-6)


def test_decoding_is_as_asked_for():
  def decode(**_):
    raise NotImplementedError

  defaults = t5x_models.DecoderParams(num_decodes=3)
  model = make_model(decode_fn=decode, default_decoder_params=defaults)
  assert model._decode_fn is decode
  assert model._default_decoder_params is defaults
  assert make_model()._decode_fn is decoding.beam_search


def test_the_first_of_equal_logits_is_the_answer_and_nan_is_none():
  rng = np.random.default_rng(0)
  # Few different values, so that most rows have ties; not all are positive.
  logits = rng.integers(-3, 2, (20, 10, 7)).astype(np.float32)
  logits[0, :9, 2] = np.nan
  targets = rng.integers(0, 7, (20, 10))
  expected = np.argmax(logits, -1) == targets
  expected[0, :9] = False  # A NaN is no prediction.
  found = models._is_argmax(jnp.asarray(logits), jnp.asarray(targets))
  np.testing.assert_array_equal(found, expected)
  assert 20 < expected.sum() < 100


@pytest.mark.parametrize('alpha', [0.0, 0.3, 1.0])
def test_loss_is_the_weighted_sum_of_two_means(alpha):
  loss, metrics = evaluate(make_batch(), alpha=alpha)
  label, rationale = task_means()
  expected = alpha * label + (1 - alpha) * rationale
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  found = values(metrics)
  np.testing.assert_allclose(found['label_loss'], label, rtol=1e-5)
  np.testing.assert_allclose(found['rationale_loss'], rationale, rtol=1e-5)


def test_smoothing_and_z_loss_go_through_the_same_weights():
  loss, metrics = evaluate(
    make_batch(), alpha=0.3, label_smoothing=0.1, z_loss=0.01
  )
  tasks = np.asarray(make_batch()['decoder_task_ids'])
  _, log_z = log_probs()
  z_loss = 0.01 * (
    0.3 * (log_z[tasks == 1] ** 2).mean()
    + 0.7 * (log_z[tasks == 2] ** 2).mean()
  )
  label, rationale = task_means(smoothing=0.1)
  found = values(metrics)
  np.testing.assert_allclose(found['label_loss'], label, rtol=1e-5)
  np.testing.assert_allclose(found['rationale_loss'], rationale, rtol=1e-5)
  np.testing.assert_allclose(found['z_loss'], z_loss, rtol=1e-5)
  total = 0.3 * label + 0.7 * rationale + z_loss
  np.testing.assert_allclose(found['loss'], total, rtol=1e-5)
  np.testing.assert_allclose(loss, total, rtol=1e-5)


def test_metrics_count_what_their_names_say():
  batch = make_batch()
  found = values(evaluate(batch)[1])
  tasks = np.asarray(batch['decoder_task_ids'])
  targets = np.asarray(batch['decoder_target_tokens'])
  right = log_probs()[0].argmax(-1) == targets
  encoder = np.asarray(batch['encoder_segment_ids']) > 0
  expected = {
    'label_tokens': (tasks == 1).sum(),
    'rationale_tokens': (tasks == 2).sum(),
    'label_accuracy': right[tasks == 1].mean(),
    'rationale_accuracy': right[tasks == 2].mean(),
    'accuracy': right[tasks > 0].mean(),
    'non_padding_fraction/encoder': encoder.mean(),
    'non_padding_fraction/decoder': (tasks > 0).mean(),
    'timing/tokens_per_second': (encoder.sum() + (tasks > 0).sum()) / 2.0,
    'timing/seqs_per_second': 4 / 2.0,
    'timing/target_tokens_per_second': tasks.size / 2.0,
  }
  for name, value in expected.items():
    assert found[name] == pytest.approx(value, rel=1e-5), name
  # The loss is a mean: one that is divided once more says nothing.
  assert not [name for name in found if name.endswith('_target_token')]
  assert not [name for name in found if name.endswith('_target_tokens')]


def test_rows_of_one_example_are_measured_alike():
  batch = {
    'encoder_input_tokens': jnp.array([[5, 6, 1, 0], [7, 1, 0, 0]]),
    'decoder_target_tokens': jnp.array([[5, 1, 0], [8, 9, 1]]),
    'decoder_input_tokens': jnp.array([[0, 5, 0], [0, 8, 9]]),
    'decoder_loss_weights': jnp.array([[1, 1, 0], [1, 1, 1]]),
    'decoder_task_ids': jnp.array([[1, 1, 0], [2, 2, 2]]),
  }
  found = values(with_network()(params(), batch)[1])
  assert found['non_padding_fraction/encoder'] == pytest.approx(5 / 8)
  assert found['non_padding_fraction/decoder'] == pytest.approx(5 / 6)
  assert found['timing/tokens_per_second'] == pytest.approx(5.0)


def only(task):
  """The batch with the loss weights and tasks of one task alone."""
  batch = make_batch()
  keep = batch['decoder_task_ids'] == task
  return batch | {
    'decoder_loss_weights': jnp.where(keep, 1, 0),
    'decoder_task_ids': jnp.where(keep, task, 0),
  }


@functools.cache
def gradients():
  model = make_model(alpha=0.3)
  return jax.jit(jax.value_and_grad(model.loss_fn, has_aux=True))


@pytest.mark.parametrize(('task', 'weight'), [(1, 0.3), (2, 0.7)])
def test_an_absent_task_has_no_loss_and_no_metrics(task, weight):
  (loss, metrics), grads = gradients()(params(), only(task), None)
  np.testing.assert_allclose(loss, weight * task_means()[task - 1], rtol=1e-5)
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
  present, absent = ('label', 'rationale')[:: 1 if task == 1 else -1]
  found = values(metrics)
  assert {f'{present}_loss', f'{present}_accuracy'} <= set(found)
  assert not {f'{absent}_loss', f'{absent}_accuracy'} & set(found)
  assert found[f'{absent}_tokens'] == 0


def test_a_batch_without_targets_has_loss_zero():
  batch = make_batch()
  batch = batch | {
    'decoder_loss_weights': jnp.zeros_like(batch['decoder_loss_weights'])
  }
  loss, metrics = evaluate(batch)
  assert loss == 0
  assert not {'label_loss', 'rationale_loss'} & set(values(metrics))


@pytest.mark.parametrize('method', ['finetune', 'single_task'])
def test_single_task_methods_take_the_mean_of_all_tokens(method):
  batch = make_batch()
  logp, _ = log_probs()
  targets = np.asarray(batch['decoder_target_tokens'])
  losses = -np.take_along_axis(logp, targets[..., None], -1)[..., 0]
  expected = losses[targets != 0].mean()
  loss, _ = evaluate(batch, method=method, alpha=0.3)
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  # They need no task ids: every token is a label token.
  without = {k: v for k, v in batch.items() if k != 'decoder_task_ids'}
  loss, metrics = evaluate(without, method=method, alpha=0.3)
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  np.testing.assert_allclose(values(metrics)['label_loss'], expected, rtol=1e-5)


@pytest.mark.parametrize('side', ['encoder', 'decoder'])
def test_examples_of_one_row_see_nothing_of_each_other(side):
  batch = make_batch()
  tokens = f'{side}_input_tokens'
  second = batch[f'{side}_segment_ids'] == 2
  assert np.all(np.any(second, axis=1))
  # Other tokens in each row's second example, of the same ids otherwise.
  other = batch | {
    tokens: jnp.where(second, 2 + (batch[tokens] + 1) % 30, batch[tokens])
  }
  before, after = (np.asarray(logits_of()(params(), b)) for b in (batch, other))
  changed = np.abs(before - after).max(axis=-1)
  segments = np.asarray(batch['decoder_segment_ids'])
  np.testing.assert_array_equal(changed[(segments > 0) & (segments != 2)], 0)
  assert np.all(changed[segments == 2] > 0)


def test_labels_count_half_by_default():
  assert make_model().alpha == 0.5
  loss, _ = with_network()(params(), make_batch())
  np.testing.assert_allclose(loss, np.mean(task_means()), rtol=1e-5)


def test_dropout_is_for_training_alone():
  batch = make_batch()
  loss_fn = jax.jit(make_model().loss_fn)
  evaluated = with_network()(params(), batch)[0]
  trained = [
    loss_fn(params(), batch, jax.random.key(seed))[0] for seed in (0, 1)
  ]
  assert evaluated == pytest.approx(loss_fn(params(), batch, None)[0])
  assert len({float(evaluated), *map(float, trained)}) == 3


def test_prepared_weights_are_used_for_parts_of_a_batch():
  model = of_logits(alpha=0.3)
  batch = model.prepare_batch(make_batch() | {'logits': logits()})
  loss_fn = jax.jit(model.loss_fn)
  whole = loss_fn({}, batch, None)[0]
  parts = [
    loss_fn({}, {k: v[i : i + 1] for k, v in batch.items()}, None)
    for i in range(4)
  ]
  np.testing.assert_allclose(sum(loss for loss, _ in parts), whole, rtol=1e-5)
  merged = functools.reduce(
    t5x_metrics.merge_metrics, (metrics for _, metrics in parts)
  )
  merged = t5x_metrics.set_step_metrics_num_steps(merged, 1)
  found, label = values(merged), task_means()[0]
  np.testing.assert_allclose(found['label_loss'], label, rtol=1e-5)
  np.testing.assert_allclose(found['loss'], whole, rtol=1e-5)


def test_dss_without_task_ids_is_refused():
  batch = {k: v for k, v in make_batch().items() if k != 'decoder_task_ids'}
  with pytest.raises(DataError, match='expected decoder_task_ids'):
    make_model().prepare_batch(batch)


@pytest.mark.parametrize('alpha', [-0.1, 1.5, float('nan')])
def test_alpha_has_to_be_a_share(alpha):
  with pytest.raises(DataError, match=f'from 0 to 1, found {alpha}'):
    make_model(alpha=alpha)


def test_a_misspelt_method_gets_a_suggestion():
  with pytest.raises(DataError, match=r"METHOD is .*Did you mean 'fine"):
    make_model(method='finetuen')


def test_a_normalizing_factor_is_refused():
  with pytest.raises(DataError, match=r'weighted mean already.*233472'):
    make_model(loss_normalizing_factor=233472)


def test_the_model_names_its_feature_converter():
  from dss_jax.pipeline import feature_converter

  converter = feature_converter.DistillFeatureConverter
  assert make_model().FEATURE_CONVERTER_CLS is converter
  assert models.DistillModel.FEATURE_CONVERTER_CLS is converter
  other = make_model(feature_converter_cls=dict)
  assert other.FEATURE_CONVERTER_CLS is dict


def test_training_needs_no_tensorflow():
  code = (
    'import sys, dss_jax.models, dss_jax.optimization;'
    'import dss_jax.pipeline.packing;'
    'print(sorted({"tensorflow", "seqio"} & set(sys.modules)))'
  )
  found = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert found.stdout.strip() == '[]'
