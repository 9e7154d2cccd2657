"""A task of ten letters, for tests of the entry points: say it backwards.

In bytes, and once more in the pieces of the packaged sample.
"""

import pathlib

import seqio
import tensorflow as tf

NAME = 'toy_backwards'
VOCABULARY = seqio.ByteVocabulary()
IN_PIECES = 'toy_pieces'
PIECES = str(
  pathlib.Path(__file__).parents[2]
  / 'dss_jax/sample/data/vocabulary/sentencepiece.model'
)
LENGTHS = {'inputs': 10, 'targets': 6}
ROWS = {'train': 16, 'validation': 10, 'test': 22}


def texts(split: str) -> list[tuple[str, str]]:
  """Returns (inputs, targets) of every example."""
  inputs = [f'{split[:2]} {i:03}' for i in range(ROWS[split])]
  return [(text, text[:2:-1]) for text in inputs]


def _source(split, shuffle_files, seed=None):
  del shuffle_files, seed
  inputs, targets = zip(*texts(split), strict=True)
  return tf.data.Dataset.from_tensor_slices(
    {'inputs': list(inputs), 'targets': list(targets)}
  )


def exact_match(targets, predictions):
  pairs = zip(targets, predictions, strict=True)
  return {'exact_match': 100 * sum(a == b for a, b in pairs) / len(targets)}


def mean_score(targets, scores):
  return {'mean_score': sum(scores) / len(targets)}


def _register(name, vocabulary):
  feature = seqio.Feature(vocabulary, add_eos=True)
  seqio.TaskRegistry.add(
    name,
    source=seqio.FunctionDataSource(
      _source, splits=list(ROWS), num_input_examples=ROWS
    ),
    preprocessors=[
      seqio.preprocessors.tokenize,
      seqio.preprocessors.append_eos_after_trim,
    ],
    output_features={'inputs': feature, 'targets': feature},
    metric_fns=[exact_match, mean_score],
  )


if NAME not in seqio.TaskRegistry.names():
  _register(NAME, VOCABULARY)
  _register(IN_PIECES, seqio.SentencePieceVocabulary(PIECES))
