"""Converter of SentencePiece models to Hugging Face's `tokenizer.json`.

transformers converts SentencePiece models itself, but ignores user-defined
pieces, and bytes, which replace characters without a piece. This conversion
gives SentencePiece's own tokens, with one exception: the library `tokenizers`
normalizes a letter together with the marks on it, and may lose a rare mark.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sentencepiece import sentencepiece_model_pb2

from dss_jax.errors import DataError

# SentencePiece's sign for a blank.
_BLANK = '\N{LOWER ONE EIGHTH BLOCK}'
# The sentinels that SeqIO and T5 add to a vocabulary.
_EXTRA_ID = re.compile(f'{_BLANK}?(<extra_id_[0-9]+>)')

_SPECIAL = {
  **dict.fromkeys(('single_word', 'lstrip', 'rstrip', 'normalized'), False),
  'special': True,
}

# The module's classes are made at run time, so mypy does not know them.
_proto: Any = sentencepiece_model_pb2
_Piece = _proto.ModelProto.SentencePiece
_Model = _proto.TrainerSpec


def describe(content: bytes) -> dict[str, Any]:
  """Returns the content of `tokenizer.json`.

  Args:
    content: a SentencePiece model, of kind Unigram or BPE, whose padding, end
      and unknown pieces have the same names as T5's.

  Raises:
    DataError: it is of another kind, or they have other names.
  """
  model = _proto.ModelProto.FromString(content)
  pieces = list(model.pieces)
  missing = {'<pad>', '</s>', '<unk>'} - {piece.piece for piece in pieces}
  if missing:
    raise DataError(
      'The SentencePiece model: expected the pieces <pad>, </s> and <unk>, as'
      f" T5's has them; found no {' and no '.join(sorted(missing))}. A student"
      ' with such a vocabulary cannot be exported.'
    )
  for piece in pieces:
    if extra := _EXTRA_ID.fullmatch(piece.piece):
      piece.piece, piece.type = extra[1], _Piece.CONTROL
  defined = [p.piece for p in pieces if p.type == _Piece.USER_DEFINED]
  return {
    'version': '1.0',
    'truncation': None,
    'padding': None,
    'added_tokens': [
      {'id': number, 'content': piece.piece, **_SPECIAL}
      for number, piece in enumerate(pieces)
      if piece.type in (_Piece.CONTROL, _Piece.UNKNOWN)
    ],
    'normalizer': _normalizer(model.normalizer_spec),
    'pre_tokenizer': _kept_whole(defined),
    'post_processor': _with_end(pieces),
    'decoder': _decoder(model.normalizer_spec.add_dummy_prefix),
    'model': _model(model.trainer_spec, pieces),
  }


def _normalizer(spec: Any) -> dict[str, Any]:
  steps = []
  if spec.precompiled_charsmap:
    table = base64.b64encode(spec.precompiled_charsmap).decode()
    steps.append({'type': 'Precompiled', 'precompiled_charsmap': table})
  if spec.remove_extra_whitespaces:
    # Only blanks, while the type `Strip` removes all Unicode whitespace.
    steps.append(_replace({'Regex': r'\A +| +\z'}, ''))
    steps.append(_replace({'Regex': ' {2,}'}, ' '))
  if spec.add_dummy_prefix:
    steps.append({'type': 'Prepend', 'prepend': _BLANK})
  steps.append(_replace({'String': ' '}, _BLANK))
  return {'type': 'Sequence', 'normalizers': steps}


def _replace(pattern: Mapping[str, str], by: str) -> dict[str, Any]:
  return {'type': 'Replace', 'pattern': dict(pattern), 'content': by}


def _kept_whole(pieces: Sequence[str]) -> dict[str, Any] | None:
  """Returns what cuts pieces out of a text first, the longest first."""
  if not pieces:
    return None
  by_length = sorted(pieces, key=len, reverse=True)
  return {
    'type': 'Split',
    'pattern': {'Regex': '|'.join(map(re.escape, by_length))},
    'behavior': 'Isolated',
    'invert': False,
  }


def _with_end(pieces: Sequence[Any]) -> dict[str, Any]:
  """Returns what appends the end token to each text."""
  (end,) = (i for i, piece in enumerate(pieces) if piece.piece == '</s>')
  last = {'SpecialToken': {'id': '</s>', 'type_id': 0}}
  texts = [{'Sequence': {'id': name, 'type_id': 0}} for name in 'AB']
  return {
    'type': 'TemplateProcessing',
    'single': [texts[0], last],
    'pair': [texts[0], last, texts[1], last],
    'special_tokens': {
      '</s>': {'id': '</s>', 'ids': [end], 'tokens': ['</s>']}
    },
  }


def _decoder(has_prefix: bool) -> dict[str, Any]:
  steps = [_replace({'String': _BLANK}, ' ')]
  steps += [{'type': 'ByteFallback'}, {'type': 'Fuse'}]
  if has_prefix:
    steps.append({'type': 'Strip', 'content': ' ', 'start': 1, 'stop': 0})
  return {'type': 'Sequence', 'decoders': steps}


def _model(spec: Any, pieces: Sequence[Any]) -> dict[str, Any]:
  (unknown,) = (i for i, p in enumerate(pieces) if p.type == _Piece.UNKNOWN)
  if spec.model_type == _Model.UNIGRAM:
    return {
      'type': 'Unigram',
      'unk_id': unknown,
      'vocab': [[piece.piece, piece.score] for piece in pieces],
      'byte_fallback': spec.byte_fallback,
    }
  if spec.model_type == _Model.BPE:
    return {
      'type': 'BPE',
      'unk_token': pieces[unknown].piece,
      'fuse_unk': True,
      'byte_fallback': spec.byte_fallback,
      # User-defined pieces are not merged from others.
      'ignore_merges': True,
      'vocab': {piece.piece: i for i, piece in enumerate(pieces)},
      'merges': _merges(pieces),
    }
  raise DataError(
    'The SentencePiece model is of kind'
    f' {_Model.ModelType.Name(spec.model_type)}: expected UNIGRAM or BPE.'
  )


def _merges(pieces: Sequence[Any]) -> list[list[str]]:
  """Returns pairs of pieces that make another piece, in merge order.

  SentencePiece first merges the pair whose piece has the highest score.
  """
  normal = {p.piece: p.score for p in pieces if p.type == _Piece.NORMAL}
  merges = []
  for piece in sorted(normal, key=lambda p: -normal[p]):
    pairs = ((piece[:i], piece[i:]) for i in range(1, len(piece)))
    merges += [[a, b] for a, b in pairs if a in normal and b in normal]
  return merges
