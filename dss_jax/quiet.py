"""Loads TensorFlow without what it says about itself."""

import os
import sys
import tempfile


def load_tensorflow() -> None:
  """Imports TensorFlow and SeqIO quietly, for a command that reads data.

  TensorFlow's libraries write to the terminal while they look for
  accelerators, before any setting of theirs applies. That is held back, and
  shown if the import fails.
  """
  if 'seqio' in sys.modules:
    return
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
  sys.stderr.flush()
  terminal = os.dup(2)
  try:
    with tempfile.TemporaryFile() as held:
      os.dup2(held.fileno(), 2)
      try:
        import seqio  # noqa: F401  Brings TensorFlow and its text operations.
      except BaseException:
        held.seek(0)
        os.write(terminal, held.read())
        raise
  finally:
    os.dup2(terminal, 2)
    os.close(terminal)
