"""From rows to the inputs and targets of a task, and on to tokens.

A row is a dict of scalar strings: `id`, `input`, `label`, `rationale`,
`teacher_label`. The prefixes and the two tasks are those of Hsieh et al. 2023,
section 3.2.
"""

import functools
from collections.abc import Callable, Mapping

import seqio
import tensorflow as tf

from dss_jax.data import own_rows, row_formats

LABEL_PREFIX = 'predict: '
RATIONALE_PREFIX = 'explain: '
# Between rationale and label in the single-task target.
ANSWER_PHRASE = 'So the answer is'

# A paired example's rationale side is as long as its label side.
_SAME_LENGTH = {'rationale_inputs': 'inputs', 'rationale_targets': 'targets'}


def _map(function: Callable[[dict], dict]):
  """Makes a SeqIO preprocessor of a function of one row."""

  @functools.wraps(function)
  def preprocess(dataset: tf.data.Dataset) -> tf.data.Dataset:
    return dataset.map(function, num_parallel_calls=tf.data.AUTOTUNE)

  return preprocess


@seqio.map_over_dataset(num_seeds=1)
def draw_rationale(row: dict, seed: tf.Tensor) -> dict:
  """Keeps one of a row's rationales, drawn anew each time the row comes.

  It has to stand behind a `seqio.CacheDatasetPlaceholder`, since SeqIO repeats
  the rows there; before it, every epoch would have the same draws.
  """
  texts = tf.strings.split(row['rationale'], own_rows.SEPARATOR)
  # A row may have no rationale at all.
  count = tf.maximum(tf.size(texts), 1)
  place = tf.random.stateless_uniform((), seed, 0, count, tf.int32)
  return {
    **row,
    'rationale': tf.strings.reduce_join(texts[place : place + 1]),
  }


@_map
def first_rationale(row: dict) -> dict:
  """Keeps the first of a row's rationales."""
  texts = tf.strings.split(row['rationale'], own_rows.SEPARATOR)
  return {**row, 'rationale': tf.strings.reduce_join(texts[:1])}


def label_task(label: str, prefix: str = LABEL_PREFIX):
  """Returns the preprocessor of a label task: prefix + input → label.

  Args:
    label: the column to predict, 'label' or 'teacher_label'.
    prefix: what stands before the input; '' for plain finetuning.
  """

  def to_label(row):
    return {
      'id': row['id'],
      'inputs': prefix + row['input'],
      'targets': row[label],
    }

  return _map(to_label)


def rationale_task():
  """Returns the preprocessor of the rationale task: explain → rationale."""

  def to_rationale(row):
    return {
      'id': row['id'],
      'inputs': RATIONALE_PREFIX + row['input'],
      'targets': row['rationale'],
    }

  return _map(to_rationale)


def single_task(label: str):
  """Returns the preprocessor of input → rationale and label in one target.

  The target is `<rationale> So the answer is <label>`, without the rationale
  where it is blank; `answer_of` takes the label out of it again.

  Args:
    label: the column to predict, 'label' or 'teacher_label'.
  """

  def to_both(row):
    joined = tf.strings.join(
      [row['rationale'], ANSWER_PHRASE, row[label]], separator=' '
    )
    return {
      'id': row['id'],
      'inputs': row['input'],
      'targets': tf.strings.strip(joined),
    }

  return _map(to_both)


def answer_of(text: str) -> str:
  """Returns the label in a single-task target, '' where it states none.

  >>> answer_of('Fish swim. So the answer is pond')
  'pond'

  Args:
    text: a target, or what a model generated.
  """
  _, phrase, answer = text.rpartition(ANSWER_PHRASE)
  return answer.strip() if phrase else ''


def paired_task(label: str):
  """Returns the preprocessor that keeps a row's two tasks in one example.

  `inputs` and `targets` are those of the label task, `rationale_inputs` and
  `rationale_targets` those of the rationale task.

  Args:
    label: the column to predict, 'label' or 'teacher_label'.
  """

  def to_pair(row):
    return {
      'id': row['id'],
      'inputs': LABEL_PREFIX + row['input'],
      'targets': row[label],
      'rationale_inputs': RATIONALE_PREFIX + row['input'],
      'rationale_targets': row['rationale'],
    }

  return _map(to_pair)


def tokenize_parts(
  dataset: tf.data.Dataset, output_features: Mapping[str, seqio.Feature]
) -> tf.data.Dataset:
  """Tokenises examples as SeqIO does, but `</s>` in inputs as the end token.

  The published inputs of two texts have `</s>` between them, which its
  tokeniser reads as the end token, while SentencePiece knows no such text and
  would spell it out. So `A b.</s>C.` becomes the tokens of `A b.`, the end
  token, and the tokens of `C.`.

  Args:
    dataset: of examples with texts.
    output_features: the task's; their vocabularies give the end token.
  """
  names = [n for n in ('inputs', 'rationale_inputs') if n in output_features]

  def with_ends(example):
    for name in names:
      vocabulary = output_features[name].vocabulary
      text = example[f'{name}_pretokenized']
      example = {**example, name: _encode_parts(vocabulary, text)}
    return example

  dataset = seqio.preprocessors.tokenize(dataset, output_features)
  return dataset.map(with_ends, num_parallel_calls=tf.data.AUTOTUNE)


def _encode_parts(vocabulary: seqio.Vocabulary, text: tf.Tensor) -> tf.Tensor:
  end = tf.constant([vocabulary.eos_id], tf.int32)

  def encode(part):
    return tf.concat([tf.cast(vocabulary.encode_tf(part), tf.int32), end], 0)

  parts = tf.map_fn(
    encode,
    tf.strings.split(text, row_formats.NLI_SEPARATOR),
    fn_output_signature=tf.RaggedTensorSpec([None], tf.int32, ragged_rank=0),
  )
  # The last end token is that of the whole input, which is added later.
  return parts.flat_values[:-1]


def append_eos(
  dataset: tf.data.Dataset,
  output_features: Mapping[str, seqio.Feature],
  sequence_length: Mapping[str, int] | None = None,
) -> tf.data.Dataset:
  """Trims features to their length, the last token being the end token.

  Args:
    dataset: of tokenised examples.
    output_features: the task's.
    sequence_length: lengths of `inputs` and `targets`; the rationale side of a
      paired example takes the same. None trims nothing.

  Returns:
    The dataset with the end token appended to every feature that has one.
  """
  lengths = dict(sequence_length or {})
  for name, like in _SAME_LENGTH.items():
    if lengths.get(like) is not None:
      lengths.setdefault(name, lengths[like])
  return seqio.preprocessors.append_eos_after_trim(
    dataset, output_features=output_features, sequence_length=lengths or None
  )


@_map
def drop_blank_pair(example):
  """Leaves no token on the rationale side where there is no rationale.

  An end token alone would teach the model to explain nothing.
  """
  keep = tf.cast(example['rationale_targets_pretokenized'] != '', tf.int32)
  return {
    name: value[: keep * tf.size(value)] if name in _SAME_LENGTH else value
    for name, value in example.items()
  }


def add_task_id(task_id: int):
  """Returns a preprocessor that adds the scalar `task_id` to each example."""

  def with_task_id(example):
    return {**example, 'task_id': tf.constant(task_id, tf.int32)}

  return _map(with_task_id)


def stripped(text: str, **unused_kwargs) -> str:
  """Returns a target or prediction without the blanks around it."""
  return text.strip()


def answer_only(text: str, **unused_kwargs) -> str:
  """Returns the label in a single-task target or prediction."""
  return answer_of(text)
