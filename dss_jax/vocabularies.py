"""The vocabulary of a run's inputs and targets."""

import seqio

from dss_jax import mixtures


def vocabulary(
  path: str | None = None, extra_ids: int | None = None
) -> seqio.SentencePieceVocabulary:
  """Returns a vocabulary, whose file is read when it is first used.

  Args:
    path: a SentencePiece model, local or gs://; None for the sample's.
    extra_ids: number of pieces to append to the model's own.
  """
  if path is None:
    return mixtures.sample_vocabulary()
  return seqio.SentencePieceVocabulary(path, extra_ids=extra_ids)
