"""Eight AdamW steps print the numbers of the published code's way of training.

`tests/golden/hf_*` come from transformers' T5 with torch's AdamW, trained with
two forward passes, one for the label and one for the rationale, padded. Here
the same examples go as pairs through the feature converter, the weighted loss
and the trainer, one example a row and packed. The numbers are facts about the
other programs: they change only if other models or batches are run there.
"""

import functools
import json
import pathlib

import jax
import numpy as np
import pytest
import tensorflow as tf

from dss_jax import models, optimization
from dss_jax.pipeline import feature_converter
from t5x import checkpoints, partitioning, train_state, trainer
from t5x.examples.t5 import network

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'
STEPS, PAIRS = 8, 6
# Rows are filled up with empty ones to the same number at every step.
ROWS = {False: 12, True: 4}
LENGTHS = {
  False: {'inputs': 26, 'targets': 20},
  True: {'inputs': 112, 'targets': 64},
}


@pytest.fixture(autouse=True)
def _as_users_compile():
  """The numbers are those of optimised programs, whatever the suite's are."""
  before = jax.config.values['jax_disable_most_optimizations']
  jax.config.update('jax_disable_most_optimizations', False)
  yield
  jax.config.update('jax_disable_most_optimizations', before)


@functools.cache
def load(name):
  folder = GOLDEN / name
  with np.load(folder / 'arrays.npz') as file:
    arrays = dict(file)
  facts = json.loads((folder / 'facts.json').read_text())
  assert len(facts['steps']) == STEPS
  read = checkpoints.load_t5x_checkpoint(str(folder / 'model'))
  return arrays, facts, read['target']


def config(name):
  """The network that the folder's config.json describes."""
  hf = json.loads((GOLDEN / name / 'model' / 'config.json').read_text())
  gated = hf['feed_forward_proj'] == 'gated-gelu'
  return network.T5Config(
    vocab_size=hf['vocab_size'],
    emb_dim=hf['d_model'],
    num_heads=hf['num_heads'],
    num_encoder_layers=hf['num_layers'],
    num_decoder_layers=hf['num_decoder_layers'],
    head_dim=hf['d_kv'],
    mlp_dim=hf['d_ff'],
    mlp_activations=('gelu', 'linear') if gated else ('relu',),
    dropout_rate=0.0,
    logits_via_embedding=hf.get('tie_word_embeddings', True),
  )


def pairs(arrays):
  """The examples of all steps, as a paired SeqIO task would give them."""
  features = {
    'inputs': 'predict_inputs',
    'targets': 'label_targets',
    'rationale_inputs': 'explain_inputs',
    'rationale_targets': 'rationale_targets',
  }
  for step, row in np.ndindex(STEPS, PAIRS):
    # Padding is 0 in inputs and -100 in targets.
    tokens = {ours: arrays[name][step, row] for ours, name in features.items()}
    yield {k: v[v > 0].astype(np.int32) for k, v in tokens.items()}


def batches(arrays, pack):
  """Puts the examples through the feature converter: one batch a step."""
  spec = tf.TensorSpec([None], tf.int32)
  examples = list(pairs(arrays))
  dataset = tf.data.Dataset.from_generator(
    lambda: iter(examples), output_signature={k: spec for k in examples[0]}
  )
  converter = feature_converter.DistillFeatureConverter(pack=pack)
  step, segments = [], 0
  for row in converter(dataset, LENGTHS[pack]).as_numpy_iterator():
    step.append(row)
    segments += row['decoder_segment_ids'].max() if pack else 1
    if segments == 2 * PAIRS:
      blank = {name: np.zeros_like(array) for name, array in row.items()}
      step += [blank] * (ROWS[pack] - len(step))
      assert len(step) == ROWS[pack]
      yield {name: np.stack([row[name] for row in step]) for name in blank}
      step, segments = [], 0


# Each network and each layout of a batch once; the other pairs are slow.
@pytest.mark.parametrize(
  ('name', 'pack'),
  [
    pytest.param('hf_1_1', False, id='hf_1_1-unpacked'),
    pytest.param('hf_1_0', True, id='hf_1_0-packed'),
    pytest.param('hf_1_1', True, id='hf_1_1-packed', marks=pytest.mark.slow),
    pytest.param('hf_1_0', False, id='hf_1_0-unpacked', marks=pytest.mark.slow),
  ],
)
def test_eight_steps_of_the_published_code(name, pack, monkeypatch):
  # A window is a step, so that no example is packed into another step's rows.
  monkeypatch.setattr(
    feature_converter.DistillFeatureConverter, 'WINDOW', PAIRS
  )
  arrays, facts, params = load(name)
  schedule = optimization.linear_decay(5e-4, STEPS)
  model = models.DistillModel(
    module=network.Transformer(config(name)),
    input_vocabulary=None,
    output_vocabulary=None,
    optimizer_def=optimization.adamw(schedule, clip_norm=1.0),
    alpha=facts['alpha'],
  )
  steps = list(batches(arrays, pack))
  shapes = {k: v.shape for k, v in steps[0].items()}
  variables = jax.eval_shape(
    lambda rng: model.get_initial_variables(rng, shapes), jax.random.key(0)
  )
  assert jax.tree.map(np.shape, params) == jax.tree.map(
    lambda leaf: leaf.shape, variables['params']
  )
  params = jax.tree.map(jax.numpy.asarray, params)
  state = train_state.FlaxOptimTrainState.create(
    model.optimizer_def, variables | {'params': params}
  )
  # One device compiles fastest; test_invariance.py has the others.
  partitioner = partitioning.PjitPartitioner(
    num_partitions=1,
    devices=jax.devices()[:1],
    # As users compile, like the rest of this.
    compiler_options={'xla_cpu_use_fusion_emitters': True},
  )
  run = trainer.Trainer(
    model=model,
    train_state=state,
    partitioner=partitioner,
    eval_names=[],
    summary_dir=None,
    train_state_axes=partitioner.get_mesh_axes(state),
    rng=jax.random.key(0),
    learning_rate_fn=schedule,
    num_microbatches=None,
  )
  metric_names = {
    'label_loss': 'label_loss',
    'rationale_loss': 'rationale_loss',
    'loss': 'loss',
    'grad_norm': 'grad_norm_before_clip',
    'learning_rate': 'learning_rate',
  }
  found, expected = [], []
  with run:
    for batch, fact in zip(steps, facts['steps'], strict=True):
      metrics = run.train(iter([batch]), 1).result()
      found.append([metrics[ours].value for ours in metric_names])
      expected.append([fact[theirs] for theirs in metric_names.values()])
  np.testing.assert_allclose(found, expected, rtol=1e-4)
