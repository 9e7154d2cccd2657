"""Which vocabulary a run reads and writes with."""

import seqio

from dss_jax import mixtures


def vocabulary(
  path: str | None = None, extra_ids: int | None = None
) -> seqio.SentencePieceVocabulary:
  """Returns the packaged sample's vocabulary, or one of your own.

  Args:
    path: a SentencePiece model, local or gs://; None for the sample's.
    extra_ids: pieces to add behind the model's own.

  Returns:
    The vocabulary; its file is read when it is first used.
  """
  if path is None:
    return mixtures.sample_vocabulary()
  return seqio.SentencePieceVocabulary(path, extra_ids=extra_ids)
