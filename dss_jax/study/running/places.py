"""Places of a machine where runs go on beside each other: cores, or a GPU."""

import dataclasses
import functools
import hashlib
import os
import pathlib
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping

from dss_jax import errors

_VISIBLE = 'CUDA_VISIBLE_DEVICES'
_TPU_DEVICES = ('/dev/accel0', '/dev/vfio/0')


@dataclasses.dataclass(frozen=True)
class Place:
  """What one run of several has for itself.

  Attributes:
    cores: their numbers; None for all of the process that starts it.
    gpu: as CUDA_VISIBLE_DEVICES names it; None where runs use no GPU, or
      what this process sees.
  """

  cores: tuple[int, ...] | None = None
  gpu: str | None = None

  def variables(self) -> dict[str, str]:
    """Returns what the place adds to a run's environment."""
    return {} if self.gpu is None else {_VISIBLE: self.gpu}

  def words(self) -> str:
    """Returns what a run computes on here, for people."""
    on_cpu = os.environ.get('JAX_PLATFORMS') == 'cpu'
    names = {} if on_cpu else gpu_names()
    if names:
      visible = self.gpu or os.environ.get(_VISIBLE)
      used = visible.split(',') if visible else list(names)
      kinds = sorted({names.get(gpu.strip(), 'GPU') for gpu in used})
      return f'{len(used)} x {", ".join(kinds)}'
    if not on_cpu and has_tpu():
      return 'TPU'
    count = len(self.cores or _cores())
    plural = '' if count == 1 else 's'
    return f'{count} core{plural} of {_processor()}'


def split(workers: int | None) -> list[Place]:
  """Returns a place for each worker of this machine.

  Each has as many cores as the others, since on CPUs the number of cores
  decides in which order numbers are added.

  Args:
    workers: how many; None for one a GPU, or one without GPUs.

  Raises:
    DataError: the machine has no place for so many.
  """
  on_cpu = os.environ.get('JAX_PLATFORMS') == 'cpu'
  gpus = [] if on_cpu else _gpus()
  count = workers or max(1, len(gpus))
  if count < 1:
    raise errors.DataError(f'--workers {count}: expected a number from 1.')
  if count == 1 and len(gpus) < 2:
    return [Place()]
  if not on_cpu and not gpus and has_tpu():
    raise errors.DataError(
      f'--workers {count}: expected 1, since one process has all TPU chips of'
      ' a machine.'
    )
  if gpus and count > len(gpus):
    raise errors.DataError(
      f'--workers {count}: expected at most {len(gpus)}, a GPU for each;'
      f' found the GPUs {", ".join(gpus)}.'
    )
  cores = _cores()
  if count > len(cores):
    raise errors.DataError(
      f'--workers {count}: expected at most {len(cores)}, a core for each.'
    )
  each = len(cores) // count
  parts = [tuple(cores[n * each : (n + 1) * each]) for n in range(count)]
  return [
    Place(part, gpus[n] if gpus else None) for n, part in enumerate(parts)
  ]


def _cores() -> list[int]:
  if hasattr(os, 'sched_getaffinity'):
    return sorted(os.sched_getaffinity(0))
  return list(range(os.cpu_count() or 1))


def _gpus() -> list[str]:
  """Returns the GPUs that this process may use, as CUDA names them."""
  visible = os.environ.get(_VISIBLE)
  if visible is not None:
    return [gpu.strip() for gpu in visible.split(',') if gpu.strip()]
  return list(gpu_names())


@functools.cache
def gpu_names() -> Mapping[str, str]:
  """Returns the kinds of this machine's NVIDIA GPUs, by number and by UUID."""
  tool = shutil.which('nvidia-smi')
  if tool is None:
    return {}
  listed = subprocess.run([tool, '-L'], capture_output=True, text=True)
  found = re.findall(
    r'^GPU (\d+): (.+?) \(UUID: .+?\)', listed.stdout, re.MULTILINE
  )
  return dict(found)


def has_tpu() -> bool:
  """Whether this machine has TPU chips."""
  return any(os.path.exists(path) for path in _TPU_DEVICES)


@functools.cache
def _processor() -> str:
  """Returns the processor's name."""
  try:
    text = pathlib.Path('/proc/cpuinfo').read_text(encoding='utf-8')
  except OSError:
    text = ''
  found = re.search(r'^model name\s*: (.+)$', text, re.MULTILINE)
  return found[1].strip() if found else platform.machine()


@functools.cache
def machine_kind() -> str:
  """Returns a name of what compiled programs depend on in a machine."""
  try:
    text = pathlib.Path('/proc/cpuinfo').read_text(encoding='utf-8')
  except OSError:
    text = platform.processor()
  flags = re.search(r'^(?:flags|Features)\s*: (.+)$', text, re.MULTILINE)
  kind = f'{_processor()} {flags[1] if flags else ""}'
  return hashlib.sha256(kind.encode()).hexdigest()[:12]
