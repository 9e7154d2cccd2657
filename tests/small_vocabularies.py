"""SentencePiece models that are trained on the sample in an instant."""

import functools
import io
import pathlib
import tempfile

import sentencepiece
import seqio

from dss_jax import sample
from dss_jax.sample import vocabulary

T5_IDS = {'pad_id': 0, 'eos_id': 1, 'unk_id': 2, 'bos_id': -1}


def trained(**options):
  """Returns a small model; options are those of SentencePiece's trainer."""
  written = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=vocabulary.sentences(sample.DATA_DIR),
    model_writer=written,
    hard_vocab_limit=False,
    minloglevel=2,
    **{'vocab_size': 700, **T5_IDS, **options},
  )
  return written.getvalue()


@functools.cache
def _folder():
  return tempfile.TemporaryDirectory()


@functools.cache
def made(**options):
  """Returns the vocabulary of such a model; it lacks most characters."""
  name = '-'.join(f'{key}={value}' for key, value in sorted(options.items()))
  path = pathlib.Path(_folder().name) / f'{name or "t5"}.model'
  path.write_bytes(trained(**options))
  return seqio.SentencePieceVocabulary(str(path))
