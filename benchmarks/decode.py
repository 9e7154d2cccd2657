"""Labels per second, side by side with PyTorch and with CTranslate2.

    pip install -e '.[bench]'
    python -m benchmarks.decode --size small --dtype float32
    python -m benchmarks.decode --sides ours ctranslate2

PyTorch is transformers' `generate`; CTranslate2 runs what its converter makes
of the same folder of weights, in float32 on a CPU. All sides answer the same
questions of real lengths (`benchmarks/workload.py`) with the same weights,
greedily, until every row of a batch has ended. The weights are drawn at random
and changed so that labels are about as long as real ones
(`benchmarks/answering.py`). This project gets rows as `t5x.infer` does, padded
to `--row-shape`, and batches them itself; PyTorch gets them in order, each
batch padded to its longest; CTranslate2 sorts them by length. Passes over all
rows alternate, and the answers of all sides are compared token by token. On a
machine that is busy otherwise, only CPU seconds compare, and only where threads
don't wait in loops: `OMP_NUM_THREADS=1 taskset -c 0 python -m …`.
"""

import argparse
import functools
import json
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import rich.console
import rich.table

from benchmarks import answering, engine, workload
from dss_jax import models, optimization
from t5x import decoding, inference, partitioning, train_state
from t5x.checkpoints.formats import huggingface
from t5x.examples.t5 import network

_EOS = 1

# Runs a pass over all rows; returns the tokens of each answer, EOS included.
Answer = Callable[[], list[np.ndarray]]


def answering_variables(size: str, inputs: list[np.ndarray]) -> dict[str, Any]:
  """Returns random variables of a size that answer with real lengths."""
  model = engine.make_model(engine.config(size, 'float32'))
  shapes = dict.fromkeys(
    ('encoder_input_tokens', 'decoder_input_tokens'), (1, 8)
  )
  variables = dict(
    jax.jit(lambda rng: model.get_initial_variables(rng, shapes))(
      jax.random.key(0)
    )
  )
  longest = max(map(len, inputs))
  tokens = np.stack([np.pad(x, (0, longest - len(x))) for x in inputs[:128]])

  def encode(params):
    return jax.jit(
      lambda params: model.module.apply(
        {'params': params},
        tokens,
        enable_dropout=False,
        method=model.module.encode,
      )
    )(params)

  variables['params'] = answering.answering(
    variables['params'], encode, tokens > 0
  )
  return variables


def rows_of(
  inputs: list[np.ndarray], labels: list[np.ndarray], shape: tuple[int, int]
) -> list[tuple[int, dict[str, np.ndarray]]]:
  """Returns (index, features) as the feature converter pads them.

  Args:
    inputs: tokens of each question.
    labels: tokens of each label; what is decoded doesn't depend on them.
    shape: (L, T), to which every row is padded.
  """

  def padded(tokens, length):
    return np.pad(tokens[:length], (0, length - len(tokens[:length])))

  rows = []
  for index, (question, label) in enumerate(zip(inputs, labels, strict=True)):
    target = padded(label, shape[1])
    features = {
      'encoder_input_tokens': padded(question, shape[0]),
      'decoder_target_tokens': target,
      'decoder_input_tokens': np.pad(target, (1, 0))[:-1],
      'decoder_loss_weights': (target > 0).astype(np.int32),
    }
    rows.append((index, features))
  return rows


def our_answers(
  options: argparse.Namespace,
  variables: Mapping[str, Any],
  rows: list[tuple[int, dict[str, np.ndarray]]],
) -> Answer:
  """Returns a pass of this project's inference."""
  vocabulary = types.SimpleNamespace(eos_id=_EOS)
  model = models.DistillModel(
    module=network.Transformer(engine.config(options.size, options.dtype)),
    input_vocabulary=vocabulary,
    output_vocabulary=vocabulary,
    optimizer_def=optimization.adamw(5e-5),
    decode_fn=functools.partial(
      decoding.temperature_sample, temperature=0.0, topk=1
    ),
  )
  partitioner = partitioning.PjitPartitioner(num_partitions=1)
  state = train_state.InferenceState.create(variables)
  axes = partitioner.get_mesh_axes(state)
  state = partitioner.move_params_to_devices(state, axes)
  infer = inference.get_infer_fn(
    model.predict_batch,
    options.batch_size,
    axes,
    partitioner,
    padded_features=model.padded_features('predict'),
  )

  def answers():
    predictions = [np.array(tokens) for _, tokens in infer(rows, state)]
    return [tokens[: np.count_nonzero(tokens)] for tokens in predictions]

  return answers


def pytorch_answers(
  options: argparse.Namespace, folder: str, inputs: list[np.ndarray], best: bool
) -> Answer:
  """Returns a pass of transformers."""
  from benchmarks import torch_decode

  device = 'cpu' if jax.default_backend() == 'cpu' else 'cuda'
  generator = torch_decode.Generator(folder, best, device)
  return lambda: generator.answers(
    inputs, options.batch_size, options.row_shape[1]
  )


def ctranslate2_answers(
  options: argparse.Namespace, folder: str, inputs: list[np.ndarray]
) -> Answer:
  """Returns a pass of CTranslate2."""
  from benchmarks import ct2_decode

  generator = ct2_decode.Generator(
    folder, engine.VOCAB_SIZE, options.ct2_converter
  )
  return lambda: generator.answers(
    inputs, options.batch_size, options.row_shape[1]
  )


def measure(
  sides: dict[str, Answer], passes: int
) -> tuple[dict[str, list[tuple[float, float]]], dict[str, list[np.ndarray]]]:
  """Times passes of all sides in turn, after one warm-up pass of each.

  Returns:
    Name to the seconds and the CPU seconds of each pass, and name to the
    answers.
  """
  answers = {name: answer() for name, answer in sides.items()}
  seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
  for _ in range(passes):
    for name, answer in sides.items():
      start, used = time.perf_counter(), time.process_time()
      answer()
      seconds[name].append(
        (time.perf_counter() - start, time.process_time() - used)
      )
  return seconds, answers


def different(answers: list[np.ndarray], others: list[np.ndarray]) -> list[int]:
  """Returns the indices of the rows whose answers differ."""
  pairs = enumerate(zip(answers, others, strict=True))
  return [i for i, (a, b) in pairs if not np.array_equal(a, b)]


def _table(seconds, answers, batch_size: int) -> rich.table.Table:
  rates, loads = (
    {
      name: len(answers[name]) / statistics.median(x[place] for x in times)
      for name, times in seconds.items()
    }
    for place in (0, 1)
  )
  slowest = min(rates.values())
  reference = next(iter(answers.values()))
  table = rich.table.Table(
    *('side', 's/batch', 'examples/s', '×', 'CPU s/batch'),
    *('tokens/label', 'other answers'),
  )
  for name, rate in rates.items():
    table.add_row(
      name,
      f'{batch_size / rate:.3f}',
      f'{rate:.1f}',
      f'{rate / slowest:.2f}',
      f'{batch_size / loads[name]:.3f}',
      f'{statistics.mean(map(len, answers[name])):.2f}',
      f'{len(different(answers[name], reference))} of {len(reference)}',
    )
  return table


def main() -> None:
  """Measures and prints a table."""
  parser = engine.parser(__doc__)
  parser.add_argument('--batch-size', type=int, default=64)
  parser.add_argument(
    '--row-shape',
    type=int,
    nargs=2,
    default=(512, 256),
    metavar=('L', 'T'),
    help='shape to which rows are padded before inference gets them, as in'
    ' gin/sizes; T is the maximum tokens of an answer on both sides',
  )
  parser.add_argument('--rows', type=int, default=1216, help='of a pass')
  parser.add_argument('--passes', type=int, default=5)
  parser.add_argument(
    '--sides',
    nargs='+',
    default=['ours', 'released', 'best'],
    choices=['ours', 'released', 'best', 'ctranslate2'],
    help='released: generate in float32, rows in order; best: rows sorted by'
    ' length, bfloat16 on a GPU; ctranslate2: on a CPU, in float32',
  )
  parser.add_argument(
    '--ct2-converter',
    default='ct2-transformers-converter',
    help='the program of that name, where it is not in this environment',
  )
  parser.add_argument('--json', help='append the raw times to this file')
  options = parser.parse_args()
  examples = workload.examples(engine.VOCAB_SIZE, options.rows)
  inputs = [x.predict for x in examples]
  variables = answering_variables(options.size, inputs)
  with tempfile.TemporaryDirectory() as folder:
    config = engine.config(options.size, options.dtype)
    huggingface.write(variables['params'], config, folder)
    rows = rows_of(inputs, [x.label for x in examples], options.row_shape)
    make = {
      'ours': lambda: our_answers(options, variables, rows),
      'released': lambda: pytorch_answers(options, folder, inputs, best=False),
      'best': lambda: pytorch_answers(options, folder, inputs, best=True),
      'ctranslate2': lambda: ctranslate2_answers(options, folder, inputs),
    }
    sides = {side: make[side]() for side in options.sides}
  seconds, answers = measure(sides, options.passes)
  rich.console.Console().print(_table(seconds, answers, options.batch_size))
  if options.json:
    with open(options.json, 'a', encoding='utf-8') as file:
      file.write(json.dumps({'command': sys.argv, 'seconds': seconds}) + '\n')


if __name__ == '__main__':
  main()
