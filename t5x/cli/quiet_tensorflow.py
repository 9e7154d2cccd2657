"""TensorFlow, imported without its log output."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


def load() -> None:
  """Imports TensorFlow without its log output, and keeps it off accelerators.

  It has to be the first import of an entry point. TensorFlow's libraries write
  to the terminal while they look for accelerators, before any setting of
  theirs applies; that output is held back, and shown if the import fails.
  """
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
  with _held_back_stderr():
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  Its libraries log at import as well.

    for kind in ('GPU', 'TPU'):
      tf.config.set_visible_devices([], kind)


@contextlib.contextmanager
def _held_back_stderr() -> Iterator[None]:
  """Keeps what libraries write to file descriptor 2, to show on failure."""
  sys.stderr.flush()
  terminal = os.dup(2)
  try:
    with tempfile.TemporaryFile() as held:
      os.dup2(held.fileno(), 2)
      try:
        yield
      except BaseException:
        held.seek(0)
        os.write(terminal, held.read())
        raise
  finally:
    os.dup2(terminal, 2)
    os.close(terminal)
