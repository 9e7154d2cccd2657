"""What names of tasks are made of, and checks of options that are names."""

import hashlib
import os
from collections.abc import Sequence
from typing import Any

import seqio

from dss_jax import errors
from dss_jax.data import tfds_builders


def sample_vocabulary() -> seqio.SentencePieceVocabulary:
  """Returns the vocabulary of the packaged sample; its file is read later."""
  return seqio.SentencePieceVocabulary(
    os.path.join(
      tfds_builders.sample_location(), 'vocabulary', 'sentencepiece.model'
    )
  )


def fingerprint(vocabulary: seqio.Vocabulary) -> str:
  """Returns 8 digits that stand for a vocabulary's kind and content."""
  kind = type(vocabulary).__qualname__
  content = getattr(vocabulary, 'sp_model', None)
  if content is None:
    content = b''
  text = f'{kind} {vocabulary.vocab_size} {vocabulary.extra_ids} '
  return hashlib.sha256(text.encode() + content).hexdigest()[:8]


def number(value: float) -> str:
  """Writes a number with characters that a task's name may have."""
  return repr(float(value)).replace('-', 'm').replace('+', '')


def choose(option: str, value: Any, known: Sequence[str]) -> None:
  """Raises a DataError unless an option has one of the values it can have."""
  if value not in known:
    raise errors.DataError(
      f'{option} is {value!r}: expected one of {", ".join(known)}.'
      f'{errors.did_you_mean(value, known)}'
    )
