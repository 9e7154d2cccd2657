"""The vocabulary that gin files name."""

import pytest

from dss_jax import errors, mixtures, vocabularies


def test_without_a_path_it_is_the_samples():
  assert vocabularies.vocabulary() == mixtures.sample_vocabulary()


def test_extra_pieces_are_appended():
  path = mixtures.sample_vocabulary().sentencepiece_model_file
  plain, more = (vocabularies.vocabulary(path, extra_ids=n) for n in (None, 3))
  assert more.vocab_size == plain.vocab_size + 3


@pytest.mark.parametrize('content', [None, b'', b'no model'])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
  path = tmp_path / 'spiece.model'
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(
    errors.DataError, match=f'The vocabulary {path}: expected'
  ):
    vocabularies.vocabulary(str(path))
