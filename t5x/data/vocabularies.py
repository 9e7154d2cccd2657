"""Vocabularies that a model can take: their size and special ids.

A batch is padded with id 0, which weighs nothing in the loss and hides a
position from attention, and decoding ends at the end id. A vocabulary whose
ids are others would train to the end and learn something else.
"""

import seqio
import tensorflow as tf
from google.protobuf import message

from t5x import errors

_PAD = 0
_UNREADABLE = (OSError, RuntimeError, tf.errors.OpError, message.DecodeError)
# The options of SentencePiece's trainer for a vocabulary like T5's.
_TRAIN_OPTIONS = '--pad_id=0 --eos_id=1 --unk_id=2 --bos_id=-1'


def check_vocabulary(
  vocabulary: seqio.Vocabulary,
  model: object,
  place: str,
  needs_end: bool = True,
) -> None:
  """Checks the size of a vocabulary, and its padding, end and unknown pieces.

  Args:
    vocabulary: which one; its file is read.
    model: whose network has a row for each id. One that does not say how many
      (`module.config.vocab_size`), and None, has enough.
    place: what has the vocabulary, as a message begins: 'The input vocabulary
      of …'.
    needs_end: whether texts end with its end piece.

  Raises:
    errors.UserError: there are more ids than rows, padding is not 0, there is
      no end, two of them are the same, or the file cannot be read.
  """
  try:
    size = vocabulary.vocab_size
  except _UNREADABLE as error:
    raise errors.UserError(
      f'{place}: expected a file of a vocabulary, found none that can be read'
      f' ({error}). Give the one that the pretrained weights have.'
    ) from error
  network = getattr(getattr(model, 'module', None), 'config', None)
  rows = getattr(network, 'vocab_size', None)
  if rows is not None and size > rows:
    raise errors.UserError(
      f'{place} has {size} ids, and the network {rows} rows: expected a row for'
      f' each id. Set network.T5Config.vocab_size to {size} or more; pretrained'
      ' weights need the vocabulary that they were trained with.'
    )
  ids = _special_ids(vocabulary)
  wrong = []
  if ids['padding'] != _PAD:
    wrong.append('padding is not 0')
  end = ids['end']
  if needs_end and (end is None or not 0 <= end < size):
    wrong.append('there is no end piece')
  used = [number for number in ids.values() if number is not None]
  used = [number for number in used if 0 <= number < size]
  if len(set(used)) < len(used):
    wrong.append('one id stands for two of them')
  if not wrong:
    return
  found = ', '.join(f'{name} {number}' for name, number in ids.items())
  raise errors.UserError(
    f'{place}: expected padding with id 0, and an end and an unknown piece with'
    f' ids of their own in 0 to {size - 1}; found {found}'
    f' ({"; ".join(wrong)}). {_advice(vocabulary)}'
  )


def _special_ids(vocabulary: seqio.Vocabulary) -> dict[str, int | None]:
  padding = vocabulary.pad_id
  if isinstance(vocabulary, seqio.SentencePieceVocabulary):
    # SeqIO says 0 whatever the model has.
    padding = vocabulary.tokenizer.pad_id()
  return {
    'padding': padding,
    'end': vocabulary.eos_id,
    'unknown': vocabulary.unk_id,
  }


def _advice(vocabulary: seqio.Vocabulary) -> str:
  if isinstance(vocabulary, seqio.SentencePieceVocabulary):
    return (
      f'Train {vocabulary.sentencepiece_model_file} again with spm_train'
      f' {_TRAIN_OPTIONS}, or take the one of the pretrained weights.'
    )
  return 'Take a vocabulary that has them, as T5 does: 0, 1 and 2.'
