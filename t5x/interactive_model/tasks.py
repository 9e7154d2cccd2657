"""Examples of a notebook as SeqIO tasks, and tasks as examples."""

from collections.abc import Mapping, Sequence
from typing import Any

import seqio
import tensorflow as tf

from t5x import errors
from t5x.interactive_model import examples as examples_lib
from t5x.interactive_model.model import InteractiveModel

# Those that the stock files of runs read.
_SPLITS = ('train', 'validation', 'test')


def get_dataset_from_natural_text_examples(
  examples: Sequence[examples_lib.Example],
  preprocessors: examples_lib.Preprocessors,
  task_feature_lengths: Mapping[str, int],
  features: Mapping[str, seqio.Feature],
) -> tf.data.Dataset:
  """Returns what the preprocessors of a task make of examples.

  Args:
    examples: mappings of `input` and `target` to text, or texts.
    preprocessors: SeqIO preprocessors that end in token features.
    task_feature_lengths: tokens for each feature; longer ones are cut.
    features: the features of the task.
  """
  return examples_lib.task(examples, preprocessors, features).get_dataset(
    sequence_length=dict(task_feature_lengths),
    split=examples_lib.SPLIT,
    shuffle=False,
  )


def get_seqio_task_from_examples(
  task_name: str,
  interactive_model: InteractiveModel,
  examples: Sequence[examples_lib.Example],
  preprocessors: examples_lib.Preprocessors,
  metric_fns: examples_lib.MetricFns | None = None,
  add_to_registry: bool = True,
) -> seqio.Task:
  """Returns a task of these examples, each of whose splits has all of them.

  Args:
    task_name: its name.
    interactive_model: the model whose features it has.
    examples: mappings of `input` and `target` to text, or texts.
    preprocessors: SeqIO preprocessors that end in token features.
    metric_fns: SeqIO's metrics.
    add_to_registry: whether it is registered, so that runs of this process can
      name it.

  Raises:
    errors.UserError: a task of this name is registered already.
  """
  task = examples_lib.task(
    examples,
    preprocessors,
    interactive_model.output_features,
    metric_fns=metric_fns,
    name=task_name,
    splits=_SPLITS,
  )
  if add_to_registry:
    if task_name in seqio.TaskRegistry.names():
      raise errors.UserError(
        f'get_seqio_task_from_examples: a task {task_name!r} is registered'
        ' already. Choose another task_name, or remove it with'
        ' seqio.TaskRegistry.remove.'
      )
    seqio.TaskRegistry.add_provider(task_name, task)
  return task


def get_batches_from_seqio(
  task_or_mixture_name: str,
  split: str,
  batch_size: int,
  num_batches: int,
  get_pretokenized_examples: bool = True,
  sequence_length: Mapping[str, int] | None = None,
  **get_dataset_kwargs: Any,
) -> list[list[dict[str, Any]]]:
  """Returns the first batches of examples of a task, for `InteractiveModel`.

  Args:
    task_or_mixture_name: a name in SeqIO's registry.
    split: which split to read.
    batch_size: examples of a batch.
    num_batches: how many batches.
    get_pretokenized_examples: whether examples are `{'input': text, 'target':
      text}`, from before they were tokenized; False gives token ids, under the
      names of the features.
    sequence_length: tokens for each feature; longer ones are cut.
    **get_dataset_kwargs: of the task's `get_dataset`, such as `shuffle` (off
      by default) and `seed`.

  Raises:
    errors.UserError: the split has fewer examples, or none of their texts.
  """
  provider = seqio.get_mixture_or_task(task_or_mixture_name)
  dataset = provider.get_dataset(
    sequence_length=dict(sequence_length) if sequence_length else None,
    split=split,
    **{'shuffle': False, 'num_epochs': 1, **get_dataset_kwargs},
  )
  wanted = batch_size * num_batches
  rows = list(dataset.take(wanted).as_numpy_iterator())
  if len(rows) < wanted:
    raise errors.UserError(
      f'get_batches_from_seqio: {num_batches} batches of {batch_size} need'
      f' {wanted} examples, and {task_or_mixture_name!r} ({split}) has'
      f' {len(rows)}. Ask for fewer.'
    )
  if get_pretokenized_examples:
    rows = [_texts(row, task_or_mixture_name) for row in rows]
  else:
    rows = [{n: row[n] for n in provider.output_features} for row in rows]
  return [rows[i : i + batch_size] for i in range(0, wanted, batch_size)]


def _texts(row: Mapping[str, Any], name: str) -> dict[str, str]:
  texts = {}
  for ours, feature in (('input', 'inputs'), ('target', 'targets')):
    text = row.get(f'{feature}_pretokenized')
    if text is None:
      raise errors.UserError(
        f'get_batches_from_seqio: the examples of {name!r} have no'
        f' {feature}_pretokenized, but {sorted(row)}. Set'
        ' get_pretokenized_examples=False for token ids.'
      )
    texts[ours] = text.decode('utf-8') if isinstance(text, bytes) else str(text)
  return texts
