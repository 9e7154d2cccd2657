"""Adapters added to kernels, slice by slice."""

import numpy as np
import pytest

from t5x.checkpoints.formats import low_rank
from t5x.errors import UserError

_RNG = np.random.default_rng(0)
FLAT = {
  'mlp/wo/kernel': _RNG.normal(size=(6, 5)).astype(np.float16),
  'mlp/wo/lora/a': _RNG.normal(size=(6, 2)).astype(np.float32),
  'mlp/wo/lora/b': _RNG.normal(size=(2, 5)).astype(np.float32),
  'norm/scale': np.ones(3, np.float32),
}


def test_a_slice_of_a_kernel_is_that_of_the_sum():
  merged = low_rank.merged(FLAT, 0.5)
  assert merged.keys() == {'mlp/wo/kernel', 'norm/scale'}
  kernel, a, b = (FLAT[name] for name in list(FLAT)[:3])
  expected = kernel.astype(np.float32) + 0.5 * (a @ b)
  found = merged['mlp/wo/kernel']
  assert found.dtype == np.float32
  np.testing.assert_allclose(found.get(), expected, rtol=1e-6)
  part = found.start_read((slice(2, 5), slice(1, 3))).result()
  np.testing.assert_allclose(part, expected[2:5, 1:3], rtol=1e-6)


def test_half_an_adapter_is_refused():
  half = {name: x for name, x in FLAT.items() if not name.endswith('/b')}
  with pytest.raises(UserError, match='lacks mlp/wo/lora/b'):
    low_rank.merged(half, 1.0)
