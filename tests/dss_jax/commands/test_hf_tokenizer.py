"""Tests of converting tokenizers, against SentencePiece itself."""

import functools
import io
import json
import re

import pytest
import sentencepiece
import tokenizers
from hypothesis import example, given
from hypothesis import strategies as st

from dss_jax import errors, mixtures, sample
from dss_jax.commands import hf_tokenizer
from dss_jax.sample import vocabulary

_PIECES = (
  'predict: ', 'Which of these', ' (a) ', '(a)', '(b)', '<sep>', ' ', '  ',
  '\n', '\t', '\u00a0', '\u3000', 'é', 'e\u0301', 'ﬁ', '½', '日本', '😀',
  'zebra', 'eee', '7', '1234', '.', '?', '"', '“', '\x00', '\u200b',
)  # fmt: skip
# What stands for no text, such as `<pad>`, is special to the one and text to
# the other; and a blank is never written as SentencePiece's sign for it. Marks
# that combine with any letter are left out: see `hf_tokenizer`.
_LETTERS = st.characters(max_codepoint=0x24F, exclude_characters='\r')
_TEXT = (
  st.lists(
    st.sampled_from(_PIECES) | st.text(_LETTERS, max_size=8), max_size=30
  )
  .map(''.join)
  .filter(lambda text: not re.search('[<▁]', text.replace('<sep>', '')))
)
_KINDS = {
  'sample': None,
  'bpe': {'model_type': 'bpe'},
  'unigram': {'model_type': 'unigram'},
  'unigram with bytes': {
    'model_type': 'unigram',
    'byte_fallback': True,
    'user_defined_symbols': ['▁(b)', '<sep>'],
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
  if options is None:
    content = mixtures.sample_vocabulary().sp_model
  else:
    content = _trained(**options)
  described = json.dumps(hf_tokenizer.describe(content))
  return (
    sentencepiece.SentencePieceProcessor(model_proto=content),
    tokenizers.Tokenizer.from_str(described),
  )


def _trained(**options):
  """A small model, with the ids that a T5's vocabulary has."""
  written = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=vocabulary.sentences(sample.DATA_DIR),
    model_writer=written,
    vocab_size=700,
    hard_vocab_limit=False,
    pad_id=0,
    eos_id=1,
    unk_id=2,
    bos_id=-1,
    minloglevel=2,
    **options,
  )
  return written.getvalue()


@pytest.mark.parametrize('kind', _KINDS)
@given(text=_TEXT)
@example(text='Which of these has a beak?\nAnswer Choices:\n(a) owl\n(b) pig')
@example(text='')
@example(text='  ')
@example(text='\x85 a\x85 ')
@example(text='\n a \n b ')
def test_tokens_are_those_of_sentencepiece(kind, text):
  processor, described = _both(kind)
  expected = processor.encode(text)
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
  processor, described = _both(kind)
  text = 'A crow is a bird. So the answer is crow'
  ids = [0, *processor.encode(text), 1]
  assert described.decode(ids) == processor.decode(processor.encode(text))


def test_the_end_token_in_a_text_divides_it():
  processor, described = _both('sample')
  expected = [*processor.encode('A dog.'), 1, *processor.encode('A cat.'), 1]
  assert described.encode('A dog.</s>A cat.').ids == expected


def test_extra_ids_are_special():
  import seqio

  path = mixtures.sample_vocabulary().sentencepiece_model_file
  extended = seqio.SentencePieceVocabulary(path, extra_ids=3)
  described = tokenizers.Tokenizer.from_str(
    json.dumps(hf_tokenizer.describe(extended.sp_model))
  )
  ids = described.encode('a <extra_id_0> b').ids
  assert extended.vocab_size - 1 in ids
  text = described.decode(ids, skip_special_tokens=True)
  assert text.split() == ['a', 'b']


def test_a_model_of_another_kind_is_refused():
  with pytest.raises(errors.DataError, match='kind CHAR: expected UNIGRAM'):
    hf_tokenizer.describe(_trained(model_type='char'))


def test_a_model_whose_end_has_another_name_is_refused():
  with pytest.raises(errors.DataError, match='found no </s>'):
    hf_tokenizer.describe(_trained(model_type='bpe', eos_piece='<end>'))
