"""SeqIO preprocessors: from rows to inputs and targets, and to tokens.

A row is a dict of scalar strings: `id`, `input`, `label`, `rationale`,
`teacher_label`, and for further kinds of rationales `rationale2`, …. The
prefixes and the two tasks are those of Hsieh et al. 2023, section 3.2.
"""

from collections.abc import Callable, Mapping, Sequence

import seqio
import tensorflow as tf

from dss_jax.data import columns, own_rows, row_formats
from dss_jax.pipeline import kinds as kinds_lib
from dss_jax.pipeline import methods

LABEL_PREFIX = methods.LABEL_PREFIX
RATIONALE_PREFIX = methods.RATIONALE_PREFIX
ANSWER_PHRASE = methods.ANSWER_PHRASE

# What the published code has for the parts of a completion that it can't read.
_BLANK = ' '
# How SentencePiece writes a space.
_SPACE_PIECE = '▁'

_Row = dict[str, tf.Tensor]
_Preprocessor = Callable[[tf.data.Dataset], tf.data.Dataset]

# For what makes datasets. AutoGraph would rewrite the source of each map's
# function and of all that it calls, for loops and conditions on tensors: there
# are none, and that delays the first example.
as_written = tf.autograph.experimental.do_not_convert


@seqio.map_over_dataset(num_seeds=1)
def draw_rationale(row: _Row, seed: tf.Tensor) -> _Row:
  """Keeps one of a row's rationales, drawn again every time the row comes.

  Of each kind one is kept, at the same place where all have as many. It must
  follow a `seqio.CacheDatasetPlaceholder`, where SeqIO repeats the
  rows; before it, every epoch would have the same draws.
  """
  drawn = {}
  for column in columns.rationales(row):
    texts = tf.strings.split(row[column], own_rows.SEPARATOR)
    # A row may have no rationale at all.
    count = tf.maximum(tf.size(texts), 1)
    place = tf.random.stateless_uniform((), seed, 0, count, tf.int32)
    drawn[column] = tf.strings.reduce_join(texts[place : place + 1])
  return {**row, **drawn}


@seqio.map_over_dataset
def first_rationale(row: _Row) -> _Row:
  """Keeps the first of a row's rationales of each kind."""
  first = {}
  for column in columns.rationales(row):
    texts = tf.strings.split(row[column], own_rows.SEPARATOR)
    first[column] = tf.strings.reduce_join(texts[:1])
  return {**row, **first}


def spell_blanks(columns: Sequence[str]) -> _Preprocessor:
  """Returns the preprocessor that writes a space for what a teacher left out.

  A completion that begins with its answer has no rationale, but could be read:
  such a rationale stays empty, as in the published code.

  Args:
    columns: those of 'rationale' and 'teacher_label' that get one.
  """

  @seqio.map_over_dataset
  def spell(row: _Row) -> _Row:
    unread = row['teacher_label'] == ''
    changed = {
      name: tf.where(unread & (row[name] == ''), _BLANK, row[name])
      for name in columns
    }
    return {**row, **changed}

  return spell


def encode_blanks(
  dataset: tf.data.Dataset, output_features: Mapping[str, seqio.Feature]
) -> tf.data.Dataset:
  """Gives targets that are a space the token that the published code trains on.

  SentencePiece has no token for it, while the published tokenizer has the piece
  of a space alone: with T5's vocabulary, the target is [3, 1] and not [1].

  Args:
    dataset: of tokenized examples, with their texts.
    output_features: the task's, with their vocabularies.
  """
  names = [targets for _, targets in kinds_lib.sides_of(list(output_features))]
  tokens = {n: blank_tokens(output_features[n].vocabulary) for n in names}

  def encode(example):
    for name in names:
      example[name] = tf.cond(
        example[f'{name}_pretokenized'] == _BLANK,
        lambda name=name: tf.constant(tokens[name], example[name].dtype),
        lambda name=name: example[name],
      )
    return example

  return dataset.map(encode, num_parallel_calls=tf.data.AUTOTUNE)


def blank_tokens(vocabulary: seqio.Vocabulary) -> list[int]:
  """Returns the tokens of a space, without the end token.

  Args:
    vocabulary: of the tokens. Where it has none for a space between no words,
      the piece that stands for spaces is taken, if it has pieces.
  """
  tokens = list(vocabulary.encode(_BLANK))
  if tokens or not isinstance(vocabulary, seqio.SentencePieceVocabulary):
    return tokens
  return [vocabulary.tokenizer.piece_to_id(_SPACE_PIECE)]


def _asking(prefix: str, column: str) -> _Preprocessor:
  """Returns the preprocessor of prefix + input → a column."""

  @seqio.map_over_dataset
  def ask(row: _Row) -> _Row:
    inputs = prefix + row['input']
    return {'id': row['id'], 'inputs': inputs, 'targets': row[column]}

  return ask


def label_task(label: str, prefix: str = LABEL_PREFIX) -> _Preprocessor:
  """Returns the preprocessor of a label task: prefix + input → label.

  Args:
    label: the column to predict, 'label' or 'teacher_label'.
    prefix: of the input; '' for plain finetuning.
  """
  return _asking(prefix, label)


def rationale_task(kind: kinds_lib.Kind = kinds_lib.ONE[0]) -> _Preprocessor:
  """Returns the preprocessor of a rationale task: explain → rationale.

  Args:
    kind: of the rationales.
  """
  return _asking(kind.prefix, kind.column)


def single_task(label: str) -> _Preprocessor:
  """Returns the preprocessor of input → rationale and label in one target.

  The target is `<rationale> So the answer is <label>`, without a blank
  rationale; `answer_of` extracts the label again.

  Args:
    label: the column to predict, 'label' or 'teacher_label'.
  """

  @seqio.map_over_dataset
  def to_both(row: _Row) -> _Row:
    parts = [row['rationale'], ANSWER_PHRASE, row[label]]
    targets = tf.strings.strip(tf.strings.join(parts, separator=' '))
    return {'id': row['id'], 'inputs': row['input'], 'targets': targets}

  return to_both


def answer_of(text: str, phrase: str = ANSWER_PHRASE) -> str:
  """Returns the label in a single-task target, '' if it states none.

  >>> answer_of('Fish swim. So the answer is pond')
  'pond'

  Args:
    text: a target, or what a model generated. Of several answers the last
      counts.
    phrase: what comes before the label.
  """
  _, found, answer = text.rpartition(phrase)
  return answer.strip() if found else ''


def paired_task(
  label: str, kinds: Sequence[kinds_lib.Kind] = kinds_lib.ONE
) -> _Preprocessor:
  """Returns the preprocessor that keeps a row's tasks in one example.

  `inputs` and `targets` are those of the label task, `rationale_inputs` and
  `rationale_targets` those of the rationale task, `rationale2_inputs`, … those
  of further kinds.

  Args:
    label: the column to predict, 'label' or 'teacher_label'.
    kinds: of the rationales.
  """

  @seqio.map_over_dataset
  def to_pair(row: _Row) -> _Row:
    example = {
      'id': row['id'],
      'inputs': LABEL_PREFIX + row['input'],
      'targets': row[label],
    }
    for kind in kinds:
      inputs, targets = kind.features
      example |= {
        inputs: kind.prefix + row['input'],
        targets: row[kind.column],
      }
    return example

  return to_pair


def tokenize_parts(
  dataset: tf.data.Dataset, output_features: Mapping[str, seqio.Feature]
) -> tf.data.Dataset:
  """Tokenizes examples as SeqIO does, but `</s>` in inputs as the end token.

  The published inputs of two texts have `</s>` between them, which the
  published tokenizer reads as the end token, while SentencePiece would spell it
  out. So `A b.</s>C.` becomes the tokens of `A b.`, the end token, and the
  tokens of `C.`.

  Args:
    dataset: of examples with texts.
    output_features: the task's, with their vocabularies.
  """
  names = [inputs for inputs, _ in kinds_lib.sides_of(list(output_features))]

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
  # `append_eos` adds the last end token, that of the whole input.
  return parts.flat_values[:-1]


def append_eos(
  dataset: tf.data.Dataset,
  output_features: Mapping[str, seqio.Feature],
  sequence_length: Mapping[str, int] | None = None,
) -> tf.data.Dataset:
  """Trims features to their length, the last token being the end token.

  Args:
    dataset: of tokenized examples.
    output_features: the task's.
    sequence_length: lengths of `inputs` and `targets`; the rationale side of a
      paired example takes the same. None trims nothing.

  Returns:
    The dataset with the end token appended to every feature that has one.
  """
  lengths = dict(sequence_length or {})
  # A paired example's rationale sides are as long as its label side.
  for sides in kinds_lib.sides_of(list(output_features))[1:]:
    for name, like in zip(sides, ('inputs', 'targets'), strict=True):
      if lengths.get(like) is not None:
        lengths.setdefault(name, lengths[like])
  return seqio.preprocessors.append_eos_after_trim(
    dataset, output_features=output_features, sequence_length=lengths or None
  )


@seqio.map_over_dataset
def drop_blank_pair(example: _Row) -> _Row:
  """Removes all tokens of the sides of a kind if it has no rationale.

  An end token alone would teach the model to explain nothing.
  """
  kept = dict(example)
  for sides in kinds_lib.sides_of(list(example))[1:]:
    keep = tf.cast(example[f'{sides[1]}_pretokenized'] != '', tf.int32)
    for name in sides:
      kept[name] = example[name][: keep * tf.size(example[name])]
  return kept


def add_task_id(task_id: int) -> _Preprocessor:
  """Returns a preprocessor that adds the scalar `task_id` to each example."""

  @seqio.map_over_dataset
  def with_task_id(example: _Row) -> _Row:
    return {**example, 'task_id': tf.constant(task_id, tf.int32)}

  return with_task_id


def stripped(text: str, **unused_kwargs) -> str:
  """Returns a target or prediction without surrounding whitespace."""
  return text.strip()
