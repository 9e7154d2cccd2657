"""Examples of `InteractiveModel`: lists of texts or of mappings of text."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import seqio
import tensorflow as tf

from t5x import errors

Example = str | Mapping[str, Any]
Preprocessors = Sequence[Callable[..., tf.data.Dataset]]
Batches = Sequence[Example] | Sequence[Sequence[Example]]
MetricFns = Sequence[Callable[..., Mapping[str, Any]]]

# The one split of the tasks made here.
SPLIT = 'examples'


def task(
  examples: Sequence[Example],
  preprocessors: Preprocessors,
  output_features: Mapping[str, seqio.Feature],
  postprocess_fn: Callable[..., Any] | None = None,
  metric_fns: MetricFns | None = None,
) -> seqio.Task:
  """Returns an unregistered task of these examples.

  Args:
    examples: texts, or mappings of feature to text.
    preprocessors: SeqIO preprocessors that end in token features.
    output_features: these features.
    postprocess_fn: see `seqio.Task`.
    metric_fns: see `seqio.Task`.

  Raises:
    errors.UserError: if these are no examples.
  """
  columns = _columns(examples)
  source = seqio.FunctionDataSource(
    lambda split, shuffle_files, seed=None: tf.data.Dataset.from_tensor_slices(
      columns
    ),
    splits=[SPLIT],
  )
  return seqio.Task(
    'interactive_model',
    source=source,
    preprocessors=list(preprocessors),
    output_features=output_features,
    postprocess_fn=postprocess_fn,
    metric_fns=metric_fns,
  )


def _columns(examples: Sequence[Example]) -> dict[str, list[Any]]:
  """Returns feature to values.

  `columns(['a', 'b'])` is `{'inputs': ['a', 'b'], 'targets': ['', '']}`.
  """
  if isinstance(examples, (str, Mapping)) or not examples:
    raise errors.UserError(
      'InteractiveModel: expected a list of examples, each a text or a mapping'
      f' such as {{"inputs": …, "targets": …}}, found {examples!r}.'
    )
  rows = [
    {'inputs': e, 'targets': ''} if isinstance(e, str) else dict(e)
    for e in examples
  ]
  for row in rows:
    if row.keys() != rows[0].keys():
      raise errors.UserError(
        'InteractiveModel: examples of one call must have the same features,'
        f' found {sorted(rows[0])} and {sorted(row)}.'
      )
  return {name: [row[name] for row in rows] for name in rows[0]}


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
