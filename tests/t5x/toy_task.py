"""A task of ten letters, for tests of the entry points: say it backwards."""

import seqio
import tensorflow as tf

NAME = 'toy_backwards'
VOCABULARY = seqio.ByteVocabulary()
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


if NAME not in seqio.TaskRegistry.names():
  _feature = seqio.Feature(VOCABULARY, add_eos=True)
  seqio.TaskRegistry.add(
    NAME,
    source=seqio.FunctionDataSource(
      _source, splits=list(ROWS), num_input_examples=ROWS
    ),
    preprocessors=[
      seqio.preprocessors.tokenize,
      seqio.preprocessors.append_eos_after_trim,
    ],
    output_features={'inputs': _feature, 'targets': _feature},
    metric_fns=[exact_match, mean_score],
  )
