"""What masks of dropout cost, and what they do to the gradient's noise.

    python -m benchmarks.dropout --size small --steps 9

Time: steps of the same packed rows with each of the network's `dropout_masks`
alternate, so that other work of the machine affects all. Noise: on 32 pairs and
a network of tiny's sizes, the root mean square distance of a gradient from the
mean of `--draws` gradients with other masks, divided by the length of that
mean; embedding and logits are left out.
"""

import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import rich.console
import rich.table

from benchmarks import engine, workload
from dss_jax.pipeline import packing
from t5x.examples.t5 import network

_PAIRS = 32
_KINDS = ('row', 'example', 'position')
# Pieces of the packaged sample's vocabulary, for networks of tiny's sizes.
_FEW_PIECES = 1152


def times(size: str, dtype: str, steps: int) -> dict[str, list[float]]:
  """Returns the seconds of steps with each kind of masks."""
  pieces = _FEW_PIECES if size == 'tiny' else engine.VOCAB_SIZE
  rows = workload.examples(pieces, 1024)
  batches = list(workload.packed_batches(rows, 8, (256, 84)))
  taken = {}
  for kind in _KINDS:
    config = engine.config(size, dtype, dropout_masks=kind)
    config = config.replace(vocab_size=pieces)
    trained = engine.make_trainer(engine.make_model(config), batches[0])
    taken[kind] = engine.stepper(trained, batches)
    taken[kind]()
  found: dict[str, list[float]] = {kind: [] for kind in _KINDS}
  for _ in range(steps):
    for kind, step in taken.items():
      start = time.perf_counter()
      step()
      found[kind].append(time.perf_counter() - start)
  return found


def pairs(packed: bool) -> dict[str, np.ndarray]:
  """Returns both examples of the pairs, packed or each in a row of its own."""
  segments = []
  for example in workload.examples(_FEW_PIECES, _PAIRS):
    segments += [
      (example.predict, example.label, packing.LABEL_TASK),
      (example.explain, example.rationale, packing.RATIONALE_TASK),
    ]
  if packed:
    return workload.packed(segments, (512, 192))
  rows = [workload.packed([segment], (128, 128)) for segment in segments]
  # Without segments and positions, a row is one example.
  return {
    name: np.concatenate([row[name] for row in rows])
    for name in rows[0]
    if name.endswith(('_tokens', '_weights', '_task_ids'))
  }


def noise(kind: str, batch: dict[str, np.ndarray], draws: int) -> float:
  """Returns the gradient's noise divided by its signal.

  Args:
    kind: of `dropout_masks`.
    batch: packed or not.
    draws: how many gradients.
  """
  config = network.T5Config(
    vocab_size=_FEW_PIECES,
    emb_dim=64,
    num_heads=4,
    head_dim=16,
    num_encoder_layers=2,
    num_decoder_layers=2,
    mlp_dim=128,
    mlp_activations=('gelu', 'linear'),
    dropout_rate=0.1,
    dropout_masks=kind,
  )
  model = engine.make_model(config)
  shapes = {name: array.shape for name, array in batch.items()}
  params = model.get_initial_variables(jax.random.key(0), shapes)['params']

  @jax.jit
  def gradient(key):
    grad = jax.grad(lambda p: model.loss_fn(p, batch, key)[0])(params)
    grad = {side: grad[side] for side in ('encoder', 'decoder')}
    grad['decoder'] = {
      name: part
      for name, part in grad['decoder'].items()
      if name != 'logits_dense'
    }
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(grad)])

  keys = jax.random.split(jax.random.key(1), draws)
  found = np.stack([np.asarray(gradient(key), np.float64) for key in keys])
  mean = found.mean(0)
  spread = np.square(found - mean).sum(1).sum() / (draws - 1)
  # The mean of few draws is longer than the signal, by their spread.
  signal = max(np.square(mean).sum() - spread / draws, 0.0)
  return float(np.sqrt(spread / signal))


def main() -> None:
  """Measures and prints two tables."""
  parser = engine.parser(__doc__)
  parser.add_argument('--steps', type=int, default=9)
  parser.add_argument('--draws', type=int, default=12)
  options = parser.parse_args()
  console = rich.console.Console()
  if options.draws:
    table = rich.table.Table('rows', 'masks', 'noise / signal')
    for packed in (True, False):
      batch = pairs(packed)
      for kind in _KINDS:
        if packed or kind != 'example':
          found = noise(kind, batch, options.draws)
          name = 'packed' if packed else 'one example each'
          table.add_row(name, kind, f'{found:.2f}')
    console.print(table)
  if options.steps:
    found = times(options.size, options.dtype, options.steps)
    table = rich.table.Table('masks', 's/step', 'ratio to row, median of pairs')
    for kind, seconds in found.items():
      ratios = [a / b for a, b in zip(seconds, found['row'], strict=True)]
      table.add_row(
        kind,
        f'{statistics.median(seconds):.3f}',
        f'{statistics.median(ratios):.3f}',
      )
    console.print(table)


if __name__ == '__main__':
  main()
