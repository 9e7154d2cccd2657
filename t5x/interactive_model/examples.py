"""Examples of `InteractiveModel`: lists of texts or of mappings of text."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import seqio
import tensorflow as tf

from t5x import errors

Example = str | Mapping[str, Any]
# T5X's names of the two texts of an example, and the task's features.
_TEXTS = {'input': 'inputs', 'target': 'targets'}
Preprocessors = Sequence[Callable[..., tf.data.Dataset]]
Batches = Sequence[Example] | Sequence[Sequence[Example]]
MetricFns = Sequence[Callable[..., Mapping[str, Any]]]

# The one split of the tasks made here, unless they get others.
SPLIT = 'examples'


def task(
  examples: Sequence[Example],
  preprocessors: Preprocessors,
  output_features: Mapping[str, seqio.Feature],
  postprocess_fn: Callable[..., Any] | None = None,
  metric_fns: MetricFns | None = None,
  name: str = 'interactive_model',
  splits: Sequence[str] = (SPLIT,),
) -> seqio.Task:
  """Returns an unregistered task of these examples.

  Args:
    examples: texts, or mappings of feature to text.
    preprocessors: SeqIO preprocessors that end in token features.
    output_features: these features.
    postprocess_fn: see `seqio.Task`.
    metric_fns: see `seqio.Task`.
    name: of the task.
    splits: each of them has all examples.

  Raises:
    errors.UserError: if these are no examples.
  """
  columns = _columns(examples)
  source = seqio.FunctionDataSource(
    lambda split, shuffle_files, seed=None: tf.data.Dataset.from_tensor_slices(
      columns
    ),
    splits=list(splits),
    num_input_examples=dict.fromkeys(splits, len(examples)),
  )
  return seqio.Task(
    name,
    source=source,
    preprocessors=list(preprocessors),
    output_features=output_features,
    postprocess_fn=postprocess_fn,
    metric_fns=metric_fns,
  )


class ReplaceableRows:
  """A task of examples whose rows are replaced between two passes.

  TensorFlow traces a pipeline when it is built, which takes a second. What
  reads from here is built once for all examples of a kind.
  """

  def __init__(self, task: seqio.Task, element_spec: Mapping[str, Any]):
    self.rows: Sequence[Mapping[str, Any]] = ()
    # One dataset, which asks for the rows anew at each pass.
    dataset = tf.data.Dataset.from_generator(
      lambda: iter(self.rows), output_signature=element_spec
    )
    self.task = seqio.Task(
      task.name,
      source=seqio.FunctionDataSource(
        lambda split, shuffle_files, seed=None: dataset, splits=[SPLIT]
      ),
      preprocessors=list(task.preprocessors),
      output_features=task.output_features,
    )


def _columns(examples: Sequence[Example]) -> dict[str, list[Any]]:
  """Returns feature to values.

  `columns(['a', 'b'])` is `{'inputs': ['a', 'b'], 'targets': ['', '']}`.
  """
  if isinstance(examples, (str, Mapping)) or not examples:
    raise errors.UserError(
      'InteractiveModel: expected a list of examples, each a text or a mapping'
      f' such as {{"input": …, "target": …}}, found {examples!r}.'
    )
  rows = [
    {'inputs': e, 'targets': ''} if isinstance(e, str) else _features(e)
    for e in examples
  ]
  for row in rows:
    if row.keys() != rows[0].keys():
      raise errors.UserError(
        'InteractiveModel: examples of one call must have the same features,'
        f' found {sorted(rows[0])} and {sorted(row)}.'
      )
  return {name: [row[name] for row in rows] for name in rows[0]}


def _features(example: Mapping[str, Any]) -> dict[str, Any]:
  """Returns an example under the names of its features.

  `{'input': 'a', 'target': 'b'}` is `{'inputs': 'a', 'targets': 'b'}`.
  """
  both = [n for n, feature in _TEXTS.items() if {n, feature} <= set(example)]
  if both:
    raise errors.UserError(
      f'InteractiveModel: found {both[0]!r} and {_TEXTS[both[0]]!r} in one'
      f' example, {dict(example)!r}. Give one of them.'
    )
  return {_TEXTS.get(name, name): text for name, text in example.items()}


def as_batches(batches: Batches) -> Sequence[Sequence[Example]]:
  """Returns batches, also of a single one."""
  if isinstance(batches[0], (str, Mapping)):
    return [cast(Sequence[Example], batches)]
  return cast(Sequence[Sequence[Example]], batches)


def target_text(example: Mapping[str, Any], task: seqio.Task) -> str:
  """Returns the text of an example's targets."""
  if 'targets_pretokenized' in example:
    return example['targets_pretokenized']
  vocabulary = task.output_features['targets'].vocabulary
  return vocabulary.decode(example['targets'])
