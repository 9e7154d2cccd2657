"""Tasks made of files of `tf.train.Example`s, for inference on them."""

import hashlib
import json
from collections.abc import Mapping, Sequence

import seqio
import tensorflow as tf

from t5x import errors

SPLIT = 'infer'
_TFRECORD = 'tfrecord'


def create_task_from_tfexample_file(
  paths: Sequence[str],
  file_type: str,
  inputs_key: str,
  targets_key: str | None,
  features: Mapping[str, seqio.Feature],
  task_id: str | None = None,
) -> str:
  """Registers a task that reads examples from files; its split is 'infer'.

  Args:
    paths: files, or patterns such as `data/*.tfrecord`.
    file_type: 'tfrecord', the one that TensorFlow reads.
    inputs_key: the text of an example that becomes `inputs`.
    targets_key: the text that becomes `targets`; None for empty targets.
    features: the task's features, `inputs` and `targets`.
    task_id: a name for the task; by default one that follows from the other
      arguments, so that inference that is started again finds its results.

  Returns:
    The name of the task in SeqIO's registry.

  Raises:
    errors.UserError: a path matches no file, or an option is not supported.
  """
  where = 'create_task_from_tfexample_file'
  if file_type != _TFRECORD:
    raise errors.UserError(
      f'{where}.file_type: expected {_TFRECORD!r}, the one kind of file that'
      f' TensorFlow reads, found {file_type!r} (macro TF_EXAMPLE_FILE_TYPE).'
    )
  if isinstance(paths, str):
    paths = [paths]
  for path in paths:
    if not tf.io.gfile.glob(path):
      raise errors.UserError(
        f'{where}.paths: {path!r} matches no file (macro'
        ' TF_EXAMPLE_FILE_PATHS).'
      )
  if not paths or set(features) != {'inputs', 'targets'}:
    raise errors.UserError(
      f'{where}: expected paths, and the features inputs and targets, found'
      f' {list(paths)} and {sorted(features)}.'
    )
  if task_id is None:
    options = json.dumps([list(paths), inputs_key, targets_key])
    task_id = hashlib.sha256(options.encode()).hexdigest()[:8]
  name = f'infer_{task_id}'
  if name in seqio.TaskRegistry.names():
    seqio.TaskRegistry.remove(name)
  text = tf.io.FixedLenFeature([], tf.string)
  keys = [inputs_key, *([targets_key] if targets_key else [])]

  def named(example):
    targets = example[targets_key] if targets_key else ''
    return {'inputs': example[inputs_key], 'targets': targets}

  seqio.TaskRegistry.add(
    name,
    source=seqio.TFExampleDataSource(
      split_to_filepattern={SPLIT: list(paths)},
      feature_description={key: text for key in keys},
    ),
    preprocessors=[
      seqio.map_over_dataset(named),
      seqio.preprocessors.tokenize,
      seqio.preprocessors.append_eos_after_trim,
    ],
    output_features=dict(features),
  )
  return name
