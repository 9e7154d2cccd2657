"""What kind of error a library's exception is."""

import jax
import numpy as np
import pytest

from t5x import errors, gin_utils


@pytest.mark.parametrize(
  ('error', 'reason'),
  [
    (MemoryError(), 'MemoryError'),
    (np._core._exceptions._ArrayMemoryError((9,), np.dtype(np.int8)), 'Unable'),
    (
      jax.errors.JaxRuntimeError(
        'RESOURCE_EXHAUSTED: Out of memory allocating 8589934592 bytes.\nmore'
      ),
      'Out of memory allocating 8589934592 bytes. A device',
    ),
    (OSError(12, 'Cannot allocate memory'), 'Cannot allocate memory'),
  ],
)
def test_memory_that_ran_out_is_told(error, reason, capsys):
  told = errors.memory_error(error)
  assert reason in str(told) and 'smaller batches' in str(told)
  with (
    pytest.raises(SystemExit) as ended,
    gin_utils.user_errors_end_the_process(),
  ):
    raise error
  assert ended.value.code == 2
  assert f'error: {told}' in capsys.readouterr().err


def test_other_resources_are_not_memory():
  for text in (
    'RESOURCE_EXHAUSTED: x; Too many open files',
    'No space left on device',
  ):
    assert errors.memory_error(OSError(text)) is None
