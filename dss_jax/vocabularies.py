"""The vocabulary of a run's inputs and targets."""

import seqio
import tensorflow as tf
from google.protobuf import message

from dss_jax import errors, mixtures

_UNREADABLE = (OSError, RuntimeError, tf.errors.OpError, message.DecodeError)


def vocabulary(
  path: str | None = None, extra_ids: int | None = None
) -> seqio.SentencePieceVocabulary:
  """Returns a vocabulary; a local file is read at once.

  Args:
    path: a SentencePiece model, local or gs://; None for the sample's.
    extra_ids: number of pieces to append to the model's own.

  Raises:
    DataError: a local file cannot be read, or holds something else.
  """
  if path is None:
    return mixtures.sample_vocabulary()
  result = seqio.SentencePieceVocabulary(path, extra_ids=extra_ids)
  if '://' in path:
    return result
  try:
    result.load_model()
  except _UNREADABLE as error:
    raise errors.DataError(
      f'The vocabulary {path}: expected a SentencePiece model, found none that'
      f' can be read ({error}). Give the file that spm_train wrote, or that of'
      ' the pretrained weights.'
    ) from error
  return result
