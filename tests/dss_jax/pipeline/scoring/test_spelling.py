"""What a vocabulary makes of texts, and what it does not know."""

import pytest
import seqio

from dss_jax import errors, mixtures
from dss_jax.pipeline.scoring import spelling
from tests import small_vocabularies


def test_unknown_characters_are_those_that_become_the_unknown_piece():
  alphabet = spelling.Alphabet(small_vocabularies.made())
  assert alphabet.unknown('a {pond} <b> 1^2 é') == set('{}<>^1é2')
  assert alphabet.unknown('a pond') == set()
  assert alphabet.unknown('') == set()


def test_a_character_may_be_known_next_to_another():
  vocabulary = small_vocabularies.made(user_defined_symbols='é,{{')
  alphabet = spelling.Alphabet(vocabulary)
  assert alphabet.unknown('\u0301') == {'\u0301'}
  assert alphabet.unknown('caf' + 'e\u0301') == set()
  assert alphabet.unknown('{ caf' + 'e\u0301') == {'{'}
  assert alphabet.unknown('{{a') == set()
  assert alphabet.unknown('{{{ \u0301') == {'{', '\u0301'}


def test_dropped_characters_are_read_as_blanks_or_not_at_all():
  alphabet = spelling.Alphabet(small_vocabularies.made())
  assert alphabet.dropped('a\nb\tc\u200b d') == {'\n', '\t', '\u200b'}
  assert alphabet.unknown('a\nb\tc\u200b d') == set()
  assert alphabet.dropped('a pond {') == set()


def test_labels_that_become_one_are_listed():
  vocabulary = small_vocabularies.made()

  def message(labels):
    with pytest.raises(errors.DataError) as raised:
      spelling.check_labels(vocabulary, labels)
    return str(raised.value)

  assert ' more' not in message(['{', '}'])
  three = message([f'{a}{b}' for a in 'abc' for b in '{}'])
  assert ' more' not in three and "'c}' and 'c{'" in three
  assert 'and 1 more' in message([f'{a}{b}' for a in 'abcd' for b in '{}'])


def test_all_labels_are_looked_at_whatever_stands_before_them():
  vocabulary = small_vocabularies.made()
  form = spelling.spelled(vocabulary, '{')
  assert spelling.confused(vocabulary, ['', 'pond', ' ', '{', 'x', '}']) == [
    ('}', '{', form)
  ]
  # In the order in which they come, not in that of their letters.
  assert spelling.confused(vocabulary, ['}', '{']) == [('{', '}', form)]


def test_labels_are_cut_as_targets_are_with_their_end_token():
  vocabulary = seqio.ByteVocabulary()
  labels = ['pond', 'pony', 'pole']
  for length, same in (
    (0, {'pond', 'pony', 'pole'}), (1, {'pond', 'pony', 'pole'}),
    (2, {'pony', 'pole'}), (3, {'pony', 'pole'}), (4, {'pony'}), (5, set()),
    (6, set()),
  ):  # fmt: skip
    found = spelling.confused(vocabulary, labels, length)
    assert {label for label, *_ in found} == same, length
    assert {form for *_, form in found} <= {'pond'[: max(length - 1, 0)]}


def test_a_class_and_its_end_have_to_fit():
  vocabulary = small_vocabularies.made()
  count = len(vocabulary.encode('pond')) + 1
  spelling.check_labels(vocabulary, ['pond'], ['pond'], count)
  with pytest.raises(errors.DataError, match=rf'cut to {count - 1}: .*{count}'):
    spelling.check_labels(vocabulary, ['pond'], ['pond'], count - 1)
  # A label that is no class may be cut, as long as no other becomes the same.
  spelling.check_labels(vocabulary, ['pond'], length=count - 1)
  spelling.check_labels(vocabulary, ['pond'], ['pond'])


def test_bytes_know_everything():
  text = 'a\n{<^\x00日本😀'
  for vocabulary in (seqio.ByteVocabulary(), small_vocabularies.made(
    byte_fallback=True, normalization_rule_name='identity'
  )):  # fmt: skip
    alphabet = spelling.Alphabet(vocabulary)
    assert alphabet.unknown(text) == alphabet.dropped(text) == set()
  # The sample's normalization reads a newline as a blank.
  alphabet = spelling.Alphabet(mixtures.sample_vocabulary())
  assert alphabet.unknown(text) == set()
  assert alphabet.dropped(text) == {'\n'}
