"""This project's side of the benchmarks: a trainer of a given size."""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import workload
from dss_jax import models, optimization
from t5x import initialization, partitioning, trainer
from t5x.examples.t5 import network

# T5 1.1: embedding, heads, layers per side, mlp.
SIZES = {
  'tiny': (64, 1, 2, 128),
  'small': (512, 6, 8, 1024),
  'base': (768, 12, 12, 2048),
  'large': (1024, 16, 24, 2816),
}
VOCAB_SIZE = 32128


def parser(description: str) -> argparse.ArgumentParser:
  """Returns a parser with the options that choose the measured network."""
  result = argparse.ArgumentParser(
    description=description,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  result.add_argument('--size', default='small', choices=list(SIZES))
  result.add_argument('--dtype', default='float32')
  return result


def config(size: str, dtype: str, **more: Any) -> network.T5Config:
  """Returns the network of a size, as defined in gin/sizes."""
  emb_dim, num_heads, layers, mlp_dim = SIZES[size]
  return network.T5Config(
    vocab_size=VOCAB_SIZE,
    emb_dim=emb_dim,
    num_heads=num_heads,
    head_dim=64,
    num_encoder_layers=layers,
    num_decoder_layers=layers,
    mlp_dim=mlp_dim,
    mlp_activations=('gelu', 'linear'),
    dropout_rate=0.1,
    logits_via_embedding=False,
    dtype=dtype,
    **more,
  )


def product_flops(size: str, tokens: workload.Tokens) -> float:
  """FLOPs of a training step's products with kernels, on real tokens alone.

  Six for each kernel's number that a token meets: forward, and the gradients of
  both factors. Attention's products of activations, a few percent with rows of
  these lengths, depend on the packing and are left out on all sides.
  """
  emb_dim, num_heads, layers, mlp_dim = SIZES[size]
  attention = 4 * emb_dim * num_heads * 64
  mlp = 3 * emb_dim * mlp_dim
  # Cross attention's keys and values are of the encoder's outputs.
  encoder = layers * (attention + mlp + attention / 2)
  decoder = layers * (attention + attention / 2 + mlp) + emb_dim * VOCAB_SIZE
  return 6 * (encoder * tokens.encoder + decoder * tokens.decoder)


def matrix_rate(dtype: str) -> float:
  """Measures the FLOP/s of a large matrix product on one device."""
  width = 2048 if jax.default_backend() == 'cpu' else 8192
  left, right = (
    jax.random.normal(jax.random.key(seed), (width, width), dtype)
    for seed in range(2)
  )
  product = jax.jit(jnp.matmul)
  times = []
  # In a row, so that waiting, as long as a product on a GPU, counts once.
  row = 1 if jax.default_backend() == 'cpu' else 20
  for _ in range(12):
    start = time.perf_counter()
    for _ in range(row):
      last = product(left, right)
    last.block_until_ready()
    times.append((time.perf_counter() - start) / row)
  return 2 * width**3 / statistics.median(times[2:])


def make_model(network_config: network.T5Config) -> models.DistillModel:
  """Returns the model of the published recipe: AdamW, clipped at 1.0."""
  return models.DistillModel(
    module=network.Transformer(network_config),
    input_vocabulary=None,
    output_vocabulary=None,
    optimizer_def=optimization.adamw(5e-5, clip_norm=1.0),
  )


def initializer(
  model: models.DistillModel,
  batch: Mapping[str, np.ndarray],
  partitioner: partitioning.PjitPartitioner,
) -> initialization.TrainStateInitializer:
  """Returns an initializer of random weights.

  Args:
    model: from `make_model`.
    batch: only its shapes matter.
    partitioner: lays the weights out.
  """
  return initialization.initializer_of(
    model, partitioner, {k: v.shape for k, v in batch.items()}
  )


def trainer_of(
  model: models.DistillModel,
  partitioner: partitioning.PjitPartitioner,
  train_state: Any,
  key: jax.Array,
) -> trainer.Trainer:
  """Returns a trainer of a state, or of the shapes of one.

  Args:
    model: from `make_model`.
    partitioner: lays the state out.
    train_state: to train, or to compile for.
    key: of dropout, or its shape.
  """
  return trainer.Trainer(
    model=model,
    train_state=train_state,
    partitioner=partitioner,
    eval_names=[],
    summary_dir=None,
    train_state_axes=partitioner.get_mesh_axes(train_state),
    rng=key,
    learning_rate_fn=lambda step: jnp.float32(5e-5),
    num_microbatches=None,
  )


def make_trainer(
  model: models.DistillModel,
  batch: Mapping[str, np.ndarray],
  rng_kind: str = 'threefry2x32',
  partitioner: partitioning.PjitPartitioner | None = None,
) -> trainer.Trainer:
  """Returns a trainer with random weights, for batches of that shape.

  Args:
    model: from `make_model`.
    batch: only its shapes matter.
    rng_kind: of dropout.
    partitioner: by default, data parallel over all devices.
  """
  partitioner = partitioner or partitioning.PjitPartitioner(num_partitions=1)
  weights = initializer(model, batch, partitioner)
  state = weights.from_scratch(jax.random.key(0))
  key = jax.random.key(0, impl=rng_kind)
  return trainer_of(model, partitioner, state, key)


def stepper(
  trained: trainer.Trainer,
  batches: Sequence[dict[str, np.ndarray]],
  steps: int = 1,
) -> Callable[[], workload.Tokens]:
  """Returns a function that takes steps and returns their real tokens.

  Args:
    trained: takes the steps.
    batches: used in turn, then again from the first.
    steps: of a call; the last one is waited for.
  """
  upcoming = itertools.cycle(batches)

  def take():
    taken = list(itertools.islice(upcoming, steps))
    trained.train(iter(taken), steps).result()
    jax.block_until_ready(trained.train_state.params)
    return workload.together(workload.real_tokens(batch) for batch in taken)

  return take
