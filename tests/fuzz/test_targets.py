"""Every reader takes its seeds, what was once found, and what lies nearby."""

import flax.serialization
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5x import errors
from t5x.checkpoints.formats import torch_pickle
from tests.fuzz import targets

# Inputs that were findings.
_FOUND = {
  # A bracket, and a string, that is never closed.
  targets.macro: [b'A\x00[', b'A\x00"""'],
  targets.legacy_index: [
    # Keys of two types.
    b'\x82\xa7vopt\x00rget\x81\xa1w\xc0',
    # A version that is an array.
    flax.serialization.msgpack_serialize(
      {'version': np.arange(3), 'optimizer': {'target': {}}}
    ),
  ],
  # Without its first byte, and cut short within a file.
  targets.release_zip: [
    targets.SEEDS[targets.release_zip][0][1:],
    targets.SEEDS[targets.release_zip][0][400:],
  ],
  targets.torch_pickle: [
    # One object put aside as number 67,108,863: a gigabyte of room.
    b'\x80\x02}r\xff\xff\xff\x03.',
    # A key that is a tuple in tuples.
    b'\x80\x02}' + b')' + b'\x85' * 3000 + b'K\x01s.',
  ],
}


@pytest.mark.parametrize('target', targets.SEEDS, ids=lambda t: t.__name__)
def test_seeds_and_findings_are_read_or_refused(target):
  for content in targets.SEEDS[target] + _FOUND.get(target, []):
    target(content)


@pytest.mark.parametrize('target', targets.SEEDS, ids=lambda t: t.__name__)
def test_what_lies_near_a_seed_is_read_or_refused(target):
  @settings(max_examples=30, deadline=None)
  @given(
    seed=st.sampled_from(targets.SEEDS[target]),
    place=st.integers(0, 2**16),
    put=st.binary(max_size=4),
    taken=st.integers(0, 4),
  )
  def near(seed, place, put, taken):
    place %= len(seed) + 1
    target(seed[:place] + put + seed[place + taken :])

  near()


def test_a_pickle_that_would_fill_the_memory_is_refused(tmp_path):
  path = tmp_path / 'pytorch_model.bin'
  for content, why in zip(
    _FOUND[targets.torch_pickle],
    ['room for 67108863 objects', 'objects in objects'],
    strict=True,
  ):
    path.write_bytes(content)
    with pytest.raises(errors.UserError, match=why):
      torch_pickle.open_file(path)
