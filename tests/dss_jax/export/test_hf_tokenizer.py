"""Tests of converting tokenizers, against SentencePiece itself."""

import functools
import json

import pytest
import sentencepiece
import seqio
import tokenizers
from hypothesis import example, given
from hypothesis import strategies as st

from dss_jax import errors, mixtures
from dss_jax.export import hf_tokenizer
from tests import small_vocabularies

_PIECES = (
  'predict: ', 'Which of these', ' (a) ', '(a)', '(b)', '<sep>', ' ', '  ',
  '\n', '\t', '\u00a0', '\u3000', 'é', 'e\u0301', 'ﬁ', '½', '日本', '😀',
  'zebra', 'eee', '7', '1234', '.', '?', '"', '“', '\x00', '\u200b',
  '<pad>', '</s>', '<unk>', '<s>', '<0x41>', '<extra_id_0>',
  '<extra_id_1>', '<',
)  # fmt: skip
# Among them what transformers takes for special tokens. A blank is never
# written as SentencePiece's sign for it, and marks that combine with any letter
# are left out: see `hf_tokenizer`.
_LETTERS = st.characters(max_codepoint=0x24F, exclude_characters='\r')
_TEXT = (
  st.lists(
    st.sampled_from(_PIECES) | st.text(_LETTERS, max_size=8), max_size=30
  )
  .map(''.join)
  .filter(lambda text: '▁' not in text)
)
_KINDS = {
  'sample': None,
  'sample with sentinels': {'extra_ids': 3},
  'bpe': {'model_type': 'bpe'},
  'unigram': {'model_type': 'unigram'},
  'unigram with bytes': {
    'model_type': 'unigram',
    'byte_fallback': True,
    'user_defined_symbols': ['▁(b)', '<sep>'],
  },
  'unigram with tags': {
    'model_type': 'unigram',
    'user_defined_symbols': ['</p>'],
  },
  'unigram as it stands': {
    'model_type': 'unigram',
    'normalization_rule_name': 'identity',
    'remove_extra_whitespaces': False,
    'add_dummy_prefix': False,
  },
}


@functools.cache
def _both(kind):
  """SentencePiece's processor of a model, and what it is described as."""
  options = _KINDS[kind]
  if kind.startswith('sample'):
    path = mixtures.sample_vocabulary().sentencepiece_model_file
    content = seqio.SentencePieceVocabulary(path, **(options or {})).sp_model
  else:
    content = small_vocabularies.trained(**options)
  processor = sentencepiece.SentencePieceProcessor(model_proto=content)
  return processor, _described(content), _described(content, in_parts=True)


def _described(content, **options):
  described = json.dumps(hf_tokenizer.describe(content, **options))
  result = tokenizers.Tokenizer.from_str(described)
  # As `split_special_tokens` of the exported folder has it.
  result.encode_special_tokens = True
  return result


@pytest.mark.parametrize('kind', _KINDS)
@given(text=_TEXT)
@example(text='Which of these has a beak?\nAnswer Choices:\n(a) owl\n(b) pig')
@example(text='')
@example(text='  ')
@example(text='\x85 a\x85 ')
@example(text='\n a \n b ')
@example(text='<pad>')
@example(text='</s></s> a</s> ')
@example(text='<<pad>> <unk>')
def test_tokens_are_those_of_sentencepiece(kind, text):
  processor, described, in_parts = _both(kind)
  _assert_same(kind, processor, described, text, processor.encode(text))
  first, *parts = text.split('</s>')
  expected = processor.encode(first)
  for part in parts:
    expected += [processor.eos_id(), *processor.encode(part)]
  _assert_same(kind, processor, in_parts, text, expected)


def _assert_same(kind, processor, described, text, expected):
  *found, end = described.encode(text).ids
  assert end == processor.eos_id()
  if found != expected:
    # Two ways to cut a text may be as likely as each other.
    assert kind.startswith('unigram')
    assert processor.decode(found) == processor.decode(expected)
    likely, other = (
      sum(map(processor.get_score, ids)) for ids in (expected, found)
    )
    assert other == pytest.approx(likely, rel=1e-5)


@pytest.mark.parametrize('kind', _KINDS)
def test_answers_are_spelled_as_sentencepiece_does(kind):
  processor, described, _ = _both(kind)
  text = 'A crow is a bird. So the answer is crow'
  ids = [0, *processor.encode(text), 1]
  assert described.decode(ids) == processor.decode(processor.encode(text))


def test_a_sentinel_in_a_text_is_one_token_as_in_training():
  processor, described, _ = _both('sample with sentinels')
  ids = described.encode('a <extra_id_0> b').ids
  assert processor.get_piece_size() - 1 in ids
  assert described.decode(ids) == processor.decode(ids) == 'a <extra_id_0> b'


def test_a_model_of_another_kind_is_refused():
  with pytest.raises(errors.DataError, match='kind CHAR: expected UNIGRAM'):
    hf_tokenizer.describe(small_vocabularies.trained(model_type='char'))


def test_a_model_whose_end_has_another_name_is_refused():
  with pytest.raises(errors.DataError, match='found no </s>'):
    hf_tokenizer.describe(
      small_vocabularies.trained(model_type='bpe', eos_piece='<end>')
    )
