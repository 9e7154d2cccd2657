"""A run's folder, made without training: its student answers at random."""

import functools
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np

import gin
from dss_jax import run_config
from t5x import checkpoints, initialization, partitioning

CLASSES = ('car', 'violin', 'goose')
# Their tokens fit into one length, so that one program answers them all.
TEXTS = (
  'Can the goose fly?',
  'Is a goose a bird?',
  'Which of these is a tool?',
  'What would you find in a workshop?',
  'a red scarf</s>a fish',
  'Does Emma play the violin?',
  'a car',
  'Where would Henry fish for trout?',
  'What is made of metal?',
  'something with three segments',
)
_SMALL = {
  'TASK_FEATURE_LENGTHS': {'inputs': 16, 'targets': 12},
  'EVAL_BATCH_SIZE': 8,
  'COLUMNS': {'input': 'ticket'},
  'CLASSES': list(CLASSES),
  'DATA': 'tickets.jsonl',
  't5x.examples.t5.network.T5Config.emb_dim': 32,
  't5x.examples.t5.network.T5Config.num_heads': 2,
  't5x.examples.t5.network.T5Config.num_encoder_layers': 1,
  't5x.examples.t5.network.T5Config.num_decoder_layers': 1,
  't5x.examples.t5.network.T5Config.mlp_dim': 32,
}


@functools.cache
def _root():
  return tempfile.TemporaryDirectory()


def made(steps: tuple[int, ...] = (2, 3), **macros) -> pathlib.Path:
  """Returns the folder of a run with checkpoints of these steps."""
  bindings = [f'{k} = {v!r}' for k, v in (_SMALL | macros).items()]
  return _made(steps, tuple(bindings))


@functools.cache
def _made(steps: tuple[int, ...], bindings: tuple[str, ...]) -> pathlib.Path:
  number = len(list(pathlib.Path(_root().name).iterdir()))
  folder = pathlib.Path(_root().name) / f'run{number}'
  folder.mkdir()
  with run_config.configured(['gin/dss_custom.gin'], bindings) as bound:
    (folder / 'config.gin').write_text(gin.config_str())
    model = run_config.resolve(bound, 'model')
  where = partitioning.PjitPartitioner(num_partitions=1)
  shapes = dict.fromkeys(
    ('encoder_input_tokens', 'decoder_input_tokens'), (8, 16)
  )
  initializer = initialization.initializer_of(
    model, where, shapes, for_training=False
  )
  draws = np.random.default_rng(0)
  # Nothing is compiled for them, as it would be to initialize a model.
  shape = initializer.global_train_state_shape
  state = shape.replace_params(
    jax.tree.map(
      lambda x: draws.normal(0, x.shape[0] ** -0.5, x.shape).astype(x.dtype),
      shape.params,
    )
  )
  manager = checkpoints.SaveCheckpointConfig().make_manager(
    str(folder), state, where
  )
  for step in steps:
    manager.save(state.replace_step(jnp.int32(step)), force=True)
  manager.close()
  return folder
