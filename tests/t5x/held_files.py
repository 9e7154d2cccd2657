"""Writes the files of an inference, and holds still where a test wants it.

The environment says where: HOLD is `<chunk>:<stage>`, and HELD is a file that
appears when the process holds still.
"""

import os
import pathlib
import re
import time

from t5x.inference import results

STAGES = ('before', 'half', 'written')


def write(path, inferences, *args, **kwargs):
  """Writes a file as the engine does; may stop before, within and after."""
  (chunk,) = re.findall(r'-chunk(\d+)', path)
  _maybe_hold(chunk, 'before')
  pathlib.Path(path).write_text('{"half a ro')
  _maybe_hold(chunk, 'half')
  results.write_inferences_to_file(path, inferences, *args, **kwargs)
  _maybe_hold(chunk, 'written')


def _maybe_hold(chunk: str, stage: str) -> None:
  if os.environ.get('HOLD') != f'{int(chunk)}:{stage}':
    return
  pathlib.Path(os.environ['HELD']).touch()
  while True:
    time.sleep(60)
