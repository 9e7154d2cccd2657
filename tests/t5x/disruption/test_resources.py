"""A disk that becomes read-only, and memory that runs out, during a run.

    pytest -m slow -s tests/t5x/disruption/test_resources.py

Each ends with code 2 and one message, and the same command goes on as soon as
there is a way to.
"""

import pathlib
import resource
import shutil
import subprocess

import pytest

from t5x import checkpoints
from tests.t5x.disruption import runs


class _Disk:
  """A file system of its own, which an error makes read-only."""

  def __init__(self, folder: pathlib.Path):
    self._image, self.folder = folder / 'image', folder / 'disk'
    self.folder.mkdir()

  def _call(self, *command: object) -> bool:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    return done.returncode == 0

  def attach(self) -> bool:
    """Makes the file system on the first call; returns whether it is there."""
    if not self._image.exists():
      with open(self._image, 'wb') as file:
        file.truncate(64 << 20)
      if not shutil.which('mkfs.ext4') or not self._call(
        'mkfs.ext4', '-q', self._image
      ):
        return False
    return self._call(
      'mount', '-o', 'loop,errors=remount-ro', self._image, self.folder
    )

  def fail(self) -> None:
    """Does what an error of the disk does: nothing is written from now on."""
    (device,) = [
      line.split()[0].rpartition('/')[2]
      for line in pathlib.Path('/proc/mounts').read_text().splitlines()
      if line.split()[1] == str(self.folder)
    ]
    pathlib.Path(f'/sys/fs/ext4/{device}/trigger_fs_error').write_text('x')

  def detach(self) -> None:
    self._call('umount', self.folder)

  def repair(self) -> None:
    """Makes it writable again, as an administrator does."""
    self.detach()
    self._call('e2fsck', '-fy', self._image)
    assert self.attach()


@pytest.fixture
def disk(tmp_path):
  """A disk for one test; needs the right to mount one."""
  disk = _Disk(tmp_path)
  if not disk.attach():
    pytest.skip('This user, or this system, may not mount a file system.')
  yield disk
  disk.detach()


@pytest.fixture(scope='module')
def straight(tmp_path_factory):
  """The folder of a run that nothing disturbed."""
  folder = tmp_path_factory.mktemp('straight') / 'run'
  runs.finish(runs.start(folder))
  return folder


@pytest.mark.slow
def test_a_disk_that_becomes_read_only_ends_a_run_with_code_2(disk, straight):
  """`pytest -m slow tests/t5x/disruption/test_resources.py -k read_only`."""
  folder = disk.folder / 'run'
  run = runs.start(folder)
  run.wait_for_step(6)
  disk.fail()
  code, text, seconds = run.end()
  print(f'ended {seconds:.1f} s after the disk\n{text[-1500:]}')
  assert code == 2, text
  assert 'Traceback' not in text
  assert 'Read-only file system' in text
  assert str(folder) in text
  assert 'make it writable, or choose another MODEL_DIR' in text
  assert f'{folder / "checkpoint_4"} is complete' in text
  # Still read-only: it says so again, and at once.
  code, text, _ = runs.start(folder).end()
  assert code == 2, text
  assert 'Traceback' not in text
  assert 'make it writable, or choose another MODEL_DIR' in text
  disk.repair()
  assert 4 in runs.assert_whole(folder)
  runs.finish(runs.start(folder))
  runs.assert_same(folder, straight)


@pytest.mark.slow
def test_memory_that_runs_out_ends_a_run_with_code_2(straight, tmp_path):
  """`pytest -m slow tests/t5x/disruption/test_resources.py -k memory`."""
  run = runs.start(
    tmp_path / 'run', breaks={'process': 0, 'at': 6, 'bytes': 8 << 30}
  )
  run.wait_for_step(4)
  # What it has by now, and one GiB more, for the threads of what is to come.
  pages = pathlib.Path(f'/proc/{run.hosts[0].pid}/statm').read_text().split()
  limit = int(pages[0]) * resource.getpagesize() + (1 << 30)
  resource.prlimit(run.hosts[0].pid, resource.RLIMIT_AS, (limit, limit))
  code, text, _ = run.end()
  print(text[-1500:])
  assert code == 2, text
  assert 'Traceback' not in text
  assert 'error: Memory ran out: ' in text
  assert 'NUM_MICROBATCHES' in text
  assert checkpoints.latest_step(run.folder) == 4
  runs.finish(runs.start(run.folder))
  runs.assert_same(run.folder, straight)
