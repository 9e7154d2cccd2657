"""Converter of SentencePiece models to Hugging Face's `tokenizer.json`.

transformers converts SentencePiece models itself, but ignores user-defined
pieces, and bytes, which replace characters without a piece. This conversion
gives SentencePiece's own tokens, with one exception: the library `tokenizers`
normalizes a letter together with the marks on it, and may lose a rare mark.

In SentencePiece no text becomes a control piece: a literal `<pad>` is five
letters. `tokenizers` finds such names in a text twice: as special tokens,
unless it is told to split them (`split_special_tokens` in transformers), and
among the pieces of the model; so a name is broken up before it gets there.
"""

import base64
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sentencepiece import sentencepiece_model_pb2

from dss_jax.errors import DataError

# SentencePiece's sign for a blank.
_BLANK = '\N{LOWER ONE EIGHTH BLOCK}'
_END = '</s>'

_SPECIAL = {
  **dict.fromkeys(('single_word', 'lstrip', 'rstrip', 'normalized'), False),
  'special': True,
}

# The module's classes are made at run time, so mypy does not know them.
_proto: Any = sentencepiece_model_pb2
_Piece = _proto.ModelProto.SentencePiece
_Model = _proto.TrainerSpec
_OF_TEXTS = (_Piece.NORMAL, _Piece.USER_DEFINED)


def describe(content: bytes, in_parts: bool = False) -> dict[str, Any]:
  """Returns the content of `tokenizer.json`.

  Args:
    content: a SentencePiece model, of kind Unigram or BPE, whose padding, end
      and unknown pieces have the same names as T5's.
    in_parts: whether a literal `</s>` in a text is the end token between two
      parts, as in `preprocessors.tokenize_parts`.

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
  defined = [p.piece for p in pieces if p.type == _Piece.USER_DEFINED]
  no_text = [p.piece for p in pieces if p.type not in _OF_TEXTS]
  if in_parts:
    defined.append(_END)
    no_text.remove(_END)
  return {
    'version': '1.0',
    'truncation': None,
    'padding': None,
    'added_tokens': [
      {'id': number, 'content': piece.piece, **_SPECIAL}
      for number, piece in enumerate(pieces)
      if piece.type in (_Piece.CONTROL, _Piece.UNKNOWN)
    ],
    'normalizer': _normalizer(model.normalizer_spec, in_parts),
    'pre_tokenizer': {
      'type': 'Sequence',
      'pretokenizers': [
        *([_kept_whole(defined)] if defined else []),
        _broken_up(no_text, pieces),
      ],
    },
    'post_processor': _with_end(pieces),
    'decoder': _decoder(model.normalizer_spec.add_dummy_prefix),
    'model': _model(model.trainer_spec, pieces),
  }


def _normalizer(spec: Any, in_parts: bool) -> dict[str, Any]:
  steps = []
  if spec.precompiled_charsmap:
    table = base64.b64encode(spec.precompiled_charsmap).decode()
    steps.append({'type': 'Precompiled', 'precompiled_charsmap': table})
  if spec.remove_extra_whitespaces:
    # Only blanks, while the type `Strip` removes all Unicode whitespace.
    steps.append(_replace({'Regex': r'\A +| +\z'}, ''))
    steps.append(_replace({'Regex': ' {2,}'}, ' '))
    if in_parts:
      steps.append(_replace({'Regex': f' *{_END} *'}, _END))
  if spec.add_dummy_prefix:
    steps.append({'type': 'Prepend', 'prepend': _BLANK})
    if in_parts:  # Each part begins with a blank, but an empty one.
      next_part = rf'{_END}(?!{_END}|\z)'
      steps.append(_replace({'Regex': next_part}, _END + _BLANK))
      empty = rf'\A{_BLANK}(?={_END})'
      steps.append(_replace({'Regex': empty}, ''))
  steps.append(_replace({'String': ' '}, _BLANK))
  return {'type': 'Sequence', 'normalizers': steps}


def _replace(pattern: Mapping[str, str], by: str) -> dict[str, Any]:
  return {'type': 'Replace', 'pattern': dict(pattern), 'content': by}


def _kept_whole(pieces: Sequence[str]) -> dict[str, Any]:
  """Returns what cuts pieces out of a text first, the longest first."""
  by_length = sorted(pieces, key=len, reverse=True)
  return {
    'type': 'Split',
    'pattern': {'Regex': '|'.join(map(re.escape, by_length))},
    'behavior': 'Isolated',
    'invert': False,
  }


def _broken_up(names: Sequence[str], pieces: Sequence[Any]) -> dict[str, Any]:
  """Returns what cuts names in two, where no piece of a text is cut as well.

  Args:
    names: of pieces that no text becomes.
    pieces: all of them.
  """
  texts = [piece.piece for piece in pieces if piece.type in _OF_TEXTS]
  pairs = {pair for text in texts for pair in itertools.pairwise(text)}
  letters = set(''.join(texts))
  cuts = []
  for name in names:
    places = range(1, len(name))
    good = (
      place
      for place in places
      # Of unknown letters, one after another are one token.
      if (name[place - 1], name[place]) not in pairs
      and (name[place - 1] in letters or name[place] in letters)
    )
    place = next(good, 1)
    head, tail = re.escape(name[:place]), re.escape(name[place:])
    cuts.append(f'{head}(?={tail})')
  return {
    'type': 'Split',
    'pattern': {'Regex': '|'.join(cuts)},
    'behavior': 'MergedWithPrevious',
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
