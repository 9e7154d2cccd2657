"""Inputs that a finished model is asked about.

    {"input": "Which of these can fly? Answer Choices: (a) pond (b) goose"}

`inputs` registers them as a SeqIO task, so that `t5x.infer` answers them.
"""

import dataclasses
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from dss_jax import errors
from dss_jax.data import own_rows, records
from dss_jax.pipeline import experiment as experiment_lib
from dss_jax.pipeline import kinds as kinds_lib
from dss_jax.pipeline import methods, packing, preprocessors, registration


def inputs(
  path: str | None,
  data_set: str,
  otherwise: str,
  method: str = 'dss',
  explain: bool | str = False,
  columns: Mapping[str, str] | None = None,
  vocabulary: seqio.Vocabulary | None = None,
  model: Any = None,
) -> str:
  """Registers the rows of a file as a task, and returns its name.

  Args:
    path: a file of JSON lines, CSV or Parquet with a column `input`; a column
      `label` becomes the targets. None takes `otherwise`.
    data_set: what the model was trained on: 'cqa', ….
    otherwise: the mixture to take without a file.
    method: how the model was trained.
    explain: whether to ask for rationales instead of labels, which a model
      trained by 'dss' alone can give on its own. Of several kinds the first, or
      the kind of this name.
    columns: maps `input`, `label` and `id` to the file's names.
    vocabulary: of inputs and targets; None for the packaged sample's.
    model: which kinds of rationales it knows; None for one.

  Returns:
    The name of a task or mixture with the split `eval`.

  Raises:
    DataError: the file is missing or malformed, or an option has a value that
      it cannot have.
  """
  errors.choose('METHOD', method, methods.METHODS)
  if explain and method != 'dss':
    raise errors.DataError(
      f'EXPLAIN is True and METHOD is {method!r}: expected a model trained by'
      " 'dss', which alone can be asked for rationales. Set EXPLAIN = False."
    )
  known = getattr(model, 'kinds', kinds_lib.ONE)
  kind = _kind(explain, known)
  if path is None:
    if isinstance(explain, str):
      raise errors.DataError(
        f'EXPLAIN is {explain!r} and INPUTS is None: expected a file of INPUTS'
        ' for one kind. EXPLAIN = True asks the test questions for all kinds.'
      )
    return otherwise
  names = tuple(filter(None, [kind.name])) if kind else ()
  # Rationales of several kinds are read only for the one that is asked for.
  read = kind is not None or known == kinds_lib.ONE
  rows = own_rows.read_one(path, columns, names, rationales=read)
  meant: tuple[Any, ...] = (rows, data_set, method)
  if kind not in (None, kinds_lib.ONE[0]):
    meant = (*meant, kind)
  digest = hashlib.sha256(repr(meant).encode()).hexdigest()
  # Names of tasks are letters, digits and _; those of files are anything.
  stem = os.path.splitext(os.path.basename(path))[0]
  stem = re.sub(r'\W+', '_', stem, flags=re.ASCII)
  asked = 'explain' if explain else 'predict'
  if kind and kind.number > 1:
    asked += f'_{kind.name}'
  name = f'{asked}_{stem}_{digest[:8]}'
  if name not in seqio.TaskRegistry.names():
    vocabulary = vocabulary or experiment_lib.sample_vocabulary()
    _register(name, rows, data_set, method, kind, vocabulary)
  return name


def _kind(
  explain: bool | str, known: Sequence[kinds_lib.Kind]
) -> kinds_lib.Kind | None:
  """Returns the kind of rationales that is asked for; None for labels."""
  if isinstance(explain, str):
    errors.choose('EXPLAIN', explain, [kind.name for kind in known])
    return next(kind for kind in known if kind.name == explain)
  return known[0] if explain else None


class _Task(seqio.Task):
  """A task that makes each example of one row, whatever the others are."""

  def get_dataset_after(self, before: int, **options: Any) -> tf.data.Dataset:
    """Returns the examples without the first so many, which are not made.

    Args:
      before: how many.
      **options: of `get_dataset`; nothing is shuffled, and the whole is read.
    """
    lengths, split = options['sequence_length'], options['split']
    dataset = self.source.get_dataset(split=split, shuffle=False).skip(before)
    dataset = self.preprocess_precache(dataset)
    dataset = self.preprocess_postcache(dataset, sequence_length=lengths)
    dataset = self._validate_preprocessing(dataset)
    if not options['trim_output_features']:
      return dataset
    return seqio.trim_dataset(dataset, lengths, self.output_features)


def _register(
  name: str,
  rows: Sequence[records.Record],
  data_set: str,
  method: str,
  kind: kinds_lib.Kind | None,
  vocabulary: seqio.Vocabulary,
) -> None:
  """Registers the task that asks about rows."""
  # As arrays, since TensorFlow looks at each value of a list by itself.
  columns = {
    name: np.array([getattr(row, name) for row in rows], object)
    for name in ('id', 'input', 'label', 'rationale')
  }

  def dataset(
    split: str, shuffle_files: bool, seed: int | None = None
  ) -> tf.data.Dataset:
    del split, shuffle_files, seed  # One split, in the order of the file.
    return tf.data.Dataset.from_tensor_slices(columns)

  if kind:
    # The file was read for this kind alone.
    asked = dataclasses.replace(kind, number=1)
    to_example = [
      preprocessors.first_rationale,
      preprocessors.rationale_task(asked),
    ]
  else:
    prefix = preprocessors.LABEL_PREFIX if method == 'dss' else ''
    to_example = [preprocessors.label_task('label', prefix)]
  seqio.TaskRegistry.add(
    name,
    source=seqio.FunctionDataSource(
      dataset,
      splits=[registration.EVAL_SPLIT],
      num_input_examples={registration.EVAL_SPLIT: len(rows)},
    ),
    preprocessors=[
      *to_example,
      registration.tokenizer(data_set),
      preprocessors.append_eos,
      preprocessors.add_task_id(
        packing.LABEL_TASK if kind is None else kind.task_id
      ),
    ],
    output_features=registration.text_features(vocabulary, 'inputs', 'targets'),
    postprocess_fn=preprocessors.stripped,
    task_cls=_Task,
  )
