"""Beginning of a run's process: bound to its parent, its cores and its folder.

    python -m dss_jax.study.running.launcher '{"lock": …}' COMMAND ARGUMENT …

The process becomes the command, so what is set here holds for it: it ends when
its parent does, however that ends, and as long as it lives nobody else trains
in its folder. It imports nothing heavy.
"""

import ctypes
import fcntl
import json
import os
import signal
import sys
import time

# Of prctl(2).
_PR_SET_PDEATHSIG = 1
_WAIT_S = 0.2


def main(options: str, *command: str) -> None:
  """Binds this process, then becomes the command.

  Args:
    options: JSON with 'parent', the number of the process that starts this
      one; 'lock', the file that stands for the run's folder; and 'cores', a
      list of numbers, or null for those of the parent.
    *command: what to become.
  """
  given = json.loads(options)
  if sys.platform == 'linux':
    _end_with_parent(given['parent'])
    if given['cores'] is not None:
      os.sched_setaffinity(0, given['cores'])
  _hold(given['lock'])
  os.execvp(command[0], command)


def _end_with_parent(parent: int) -> None:
  """Has the kernel kill this process when the parent's thread ends."""
  libc = ctypes.CDLL(None, use_errno=True)
  if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
    raise OSError(ctypes.get_errno(), 'prctl')
  if os.getppid() != parent:  # It has ended meanwhile.
    os.kill(os.getpid(), signal.SIGKILL)


def _hold(path: str) -> None:
  """Locks a file for as long as this process lives, waiting for others."""
  file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
  told = False
  while True:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      break
    except BlockingIOError:
      if not told:
        print('Another process trains in this folder: waiting for its end.')
        sys.stdout.flush()
      told = True
      time.sleep(_WAIT_S)
  os.set_inheritable(file, True)


if __name__ == '__main__':
  main(*sys.argv[1:])
