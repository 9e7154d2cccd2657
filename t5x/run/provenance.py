"""Where a run's results come from: its command, versions, devices, and source.

`commands.jsonl` in a run's folder has a line for each command that trained it,
so that a run that was resumed elsewhere says so.
"""

import datetime
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from etils import epath

from t5x import files, neutral

FILE = 'commands.jsonl'


def record(model_dir: str, devices: Sequence[Any], versions: str) -> None:
  """Adds this process's command to a run's `commands.jsonl`.

  Args:
    model_dir: the run's folder.
    devices: of JAX, those of all processes.
    versions: lines such as `jax 0.10.2`.
  """
  kinds = [str(device.device_kind) for device in devices]
  row = {
    'time': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    # A path or an option may hold a login.
    'command': [neutral.without_logins(word) for word in sys.argv],
    'folder': os.getcwd(),
    'versions': versions.splitlines(),
    'commit': source_commit(),
    'devices': {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
  }
  path = epath.Path(model_dir) / FILE
  before = path.read_text() if path.exists() else ''
  with files.replacing(path) as work:
    work.write_text(f'{before}{json.dumps(row)}\n')


def source_commit() -> str | None:
  """Returns the commit of the source tree, with `+` if files differ from it.

  None where the package is installed, or there is no git.
  """
  root = pathlib.Path(__file__).parents[2]
  if not (root / '.git').exists():
    return None
  try:
    texts = [
      subprocess.run(
        ['git', '-C', str(root), *command],
        capture_output=True,
        text=True,
        check=True,
      ).stdout.strip()
      for command in (
        ('rev-parse', 'HEAD'),
        ('status', '--porcelain', '--untracked-files=no'),
      )
    ]
  except (OSError, subprocess.CalledProcessError):
    return None
  return texts[0] + ('+' if texts[1] else '')
