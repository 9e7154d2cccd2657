"""One writer per folder, with real processes."""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from t5x import errors
from t5x.files import folder_lock

_HOLD = """
import sys, time
from t5x import errors
from t5x.files import folder_lock
folder_lock.BEAT_SECONDS = float(sys.argv[2])
try:
  with folder_lock.writing(sys.argv[1]):
    print('writing', flush=True)
    time.sleep(float(sys.argv[3]))
except errors.UserError as error:
  print('refused', error, flush=True)
  sys.exit(error.exit_code)
"""


@contextlib.contextmanager
def _process(folder, beat=5.0, seconds=60.0):
  process = subprocess.Popen(
    [sys.executable, '-c', _HOLD, os.fspath(folder), str(beat), str(seconds)],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  try:
    yield process
  finally:
    process.kill()
    process.communicate()


def _record(folder: pathlib.Path) -> pathlib.Path:
  return folder / folder_lock.FILE


def _elsewhere(folder: pathlib.Path) -> None:
  """Leaves the record of a writer on another machine."""
  writer = dataclasses.replace(
    folder_lock.Writer.this_process(), host='other', machine='boot of another'
  )
  record = {**dataclasses.asdict(writer), 'beat': 0}
  _record(folder).write_text(json.dumps(record))


def test_a_living_writer_is_named_and_its_folder_refused(tmp_path):
  with _process(tmp_path) as process:
    assert process.stdout.readline() == 'writing\n'
    expected = (
      rf'^{tmp_path}: expected .*process {process.pid} on .*, since'
      r' 20..-..-..T..:..:..\+00:00, does\. .*choose another'
    )
    with (
      pytest.raises(errors.UserError, match=expected),
      folder_lock.writing(os.fspath(tmp_path)),
    ):
      pytest.fail('both write')
    # The refused one left the record of the other alone.
    found = json.loads(_record(tmp_path).read_text())
    assert found['pid'] == process.pid
    # The 22nd number of proc(5), of which the first two hold the name.
    stat = pathlib.Path(f'/proc/{process.pid}/stat').read_text()
    assert found['started'] == int(stat.rsplit(') ', 1)[1].split()[22 - 3])


def test_a_stopped_process_still_holds_its_folder(tmp_path):
  with _process(tmp_path) as process:
    assert process.stdout.readline() == 'writing\n'
    process.send_signal(signal.SIGSTOP)
    with (
      pytest.raises(errors.UserError, match=f'process {process.pid} on'),
      folder_lock.writing(os.fspath(tmp_path)),
    ):
      pytest.fail('both write')


def test_a_killed_writer_on_this_machine_is_followed_at_once(tmp_path):
  with _process(tmp_path) as process:
    assert process.stdout.readline() == 'writing\n'
    process.kill()
    # Dead, but not yet waited for.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert _record(tmp_path).exists()
    begin = time.monotonic()
    with folder_lock.writing(os.fspath(tmp_path)):
      pass
    assert time.monotonic() - begin < folder_lock.STALE_SECONDS / 2


@pytest.mark.parametrize('machine', ['', '0', '~'])
def test_a_writer_of_another_machine_is_not_here(machine):
  own = folder_lock.Writer.this_process()
  assert own.is_here
  assert not dataclasses.replace(own, machine=machine).is_here


@pytest.mark.parametrize('ticks', [-1, 1])
def test_a_number_that_is_used_again_is_not_the_writer(tmp_path, ticks):
  writer = folder_lock.Writer.this_process()
  other = dataclasses.replace(writer, started=writer.started + ticks)
  _record(tmp_path).write_text(json.dumps(dataclasses.asdict(other)))
  with folder_lock.writing(os.fspath(tmp_path)):
    assert json.loads(_record(tmp_path).read_text())['started'] == (
      writer.started
    )


def test_the_record_is_removed_at_the_end_and_after_an_error(tmp_path):
  with folder_lock.writing(os.fspath(tmp_path)):
    assert _record(tmp_path).exists()
  assert not list(tmp_path.iterdir())
  with (
    pytest.raises(ZeroDivisionError),
    folder_lock.writing(os.fspath(tmp_path)),
  ):
    raise ZeroDivisionError
  assert not list(tmp_path.iterdir())


def test_one_process_does_not_write_twice(tmp_path):
  with (
    folder_lock.writing(os.fspath(tmp_path)),
    pytest.raises(errors.UserError, match=f'process {os.getpid()} on'),
    folder_lock.writing(os.fspath(tmp_path)),
  ):
    pytest.fail('both write')


def test_the_message_names_what_is_written(tmp_path):
  folder = os.fspath(tmp_path)
  with (
    folder_lock.writing(folder, what='the table'),
    pytest.raises(errors.UserError, match=r'^the table: expected'),
    folder_lock.writing(folder, what='the table'),
  ):
    pytest.fail('both write')


def test_one_that_began_in_the_same_instant_is_seen(tmp_path, monkeypatch):
  @contextlib.contextmanager
  def after_another(folder):
    _elsewhere(tmp_path)
    yield

  monkeypatch.setattr(folder_lock, '_exclusively', after_another)
  with (
    pytest.raises(errors.UserError, match="on 'other'"),
    folder_lock.writing(os.fspath(tmp_path)),
  ):
    pytest.fail('both write')


def test_one_that_wrote_last_in_remote_storage_has_it(tmp_path, monkeypatch):
  monkeypatch.setattr(folder_lock.paths, 'is_remote', lambda path: True)
  waited = []

  def sleep(seconds):
    waited.append(seconds)
    _elsewhere(tmp_path)

  monkeypatch.setattr(folder_lock.time, 'sleep', sleep)
  with (
    pytest.raises(errors.UserError, match="on 'other'"),
    folder_lock.writing(os.fspath(tmp_path)),
  ):
    pytest.fail('both write')
  assert len(waited) == 1


def test_processes_of_one_machine_look_and_write_in_turn(tmp_path):
  descriptor = os.open(tmp_path, os.O_RDONLY)
  fcntl.flock(descriptor, fcntl.LOCK_EX)  # Another process looks.
  begun = threading.Event()

  def write():
    with folder_lock.writing(os.fspath(tmp_path)):
      begun.set()

  thread = threading.Thread(target=write)
  thread.start()
  assert not begun.wait(0.1)
  os.close(descriptor)
  assert begun.wait(30)
  thread.join()


def test_no_beat_comes_after_the_end(tmp_path, monkeypatch):
  beats, write = threading.Event(), folder_lock._write

  def slow(path, writer, beat):
    if beat:
      beats.set()
      time.sleep(0.1)
    write(path, writer, beat)

  monkeypatch.setattr(folder_lock, '_write', slow)
  monkeypatch.setattr(folder_lock, 'BEAT_SECONDS', 0.01)
  before = threading.active_count()
  with folder_lock.writing(os.fspath(tmp_path)):
    _record(tmp_path).unlink()
    assert beats.wait(30)
  assert threading.active_count() == before
  assert not list(tmp_path.iterdir())


def test_parts_of_a_folder_have_a_writer_each(tmp_path):
  folder = os.fspath(tmp_path)
  with (
    folder_lock.writing(folder, 'a.json'),
    folder_lock.writing(folder, 'b.json'),
  ):
    assert sorted(p.name for p in tmp_path.iterdir()) == ['a.json', 'b.json']


def test_a_silent_writer_elsewhere_is_waited_for(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(folder_lock, 'STALE_SECONDS', 0.4)
  monkeypatch.setattr(folder_lock, '_POLL_SECONDS', 0.05)
  _elsewhere(tmp_path)
  begin = time.monotonic()
  with folder_lock.writing(os.fspath(tmp_path)):
    assert time.monotonic() - begin >= 0.4
    assert json.loads(_record(tmp_path).read_text())['pid'] == os.getpid()
  assert "on 'other'" in capsys.readouterr().err


@pytest.mark.parametrize('clock', [None, (1, 1)], ids=['right', 'behind'])
def test_a_writer_elsewhere_that_lives_is_not_disturbed(
  tmp_path, monkeypatch, clock
):
  monkeypatch.setattr(folder_lock, '_POLL_SECONDS', 0.05)
  _elsewhere(tmp_path)
  timer = threading.Timer(0.15, lambda: os.utime(_record(tmp_path), clock))
  timer.start()
  try:
    with (
      pytest.raises(errors.UserError, match="on 'other'"),
      folder_lock.writing(os.fspath(tmp_path)),
    ):
      pytest.fail('both write')
  finally:
    timer.join()


def test_a_writer_elsewhere_that_ends_is_followed_at_once(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(folder_lock, '_POLL_SECONDS', 0.05)
  _elsewhere(tmp_path)
  timer = threading.Timer(0.3, _record(tmp_path).unlink)
  timer.start()
  begin = time.monotonic()
  with folder_lock.writing(os.fspath(tmp_path)):
    assert time.monotonic() - begin < folder_lock.STALE_SECONDS / 2
  timer.join()


def test_a_writer_that_lost_its_folder_ends(tmp_path):
  with _process(tmp_path, beat=0.1) as process:
    assert process.stdout.readline() == 'writing\n'
    _elsewhere(tmp_path)
    assert process.wait(timeout=30) == 2
    said = process.stderr.read()
  assert "on 'other'" in said
  assert 'took this folder over' in said
  # The new writer's record stays.
  assert json.loads(_record(tmp_path).read_text())['host'] == 'other'


def test_a_writer_beats_and_brings_a_removed_record_back(tmp_path, monkeypatch):
  monkeypatch.setattr(folder_lock, 'BEAT_SECONDS', 0.05)
  with folder_lock.writing(os.fspath(tmp_path)):
    first = _record(tmp_path).stat().st_mtime_ns
    _eventually(lambda: _record(tmp_path).stat().st_mtime_ns > first)
    _record(tmp_path).unlink()
    _eventually(_record(tmp_path).exists)


def test_a_beat_in_remote_storage_is_another_record(tmp_path, monkeypatch):
  # Where a file that is the same has no other time that others could see.
  monkeypatch.setattr(folder_lock.paths, 'is_remote', lambda path: True)
  monkeypatch.setattr(folder_lock, 'BEAT_SECONDS', 0.02)
  monkeypatch.setattr(folder_lock, '_SETTLE_SECONDS', 0.0)
  seen = set()
  with folder_lock.writing(os.fspath(tmp_path)):

    def is_counting():
      seen.add(json.loads(_record(tmp_path).read_text())['beat'])
      return len(seen) > 2

    _eventually(is_counting)


def test_of_several_that_begin_together_one_writes(tmp_path):
  with contextlib.ExitStack() as stack:
    processes = [stack.enter_context(_process(tmp_path)) for _ in range(4)]
    lines = [process.stdout.readline() for process in processes]
  assert sorted(line.split()[0] for line in lines) == [
    *['refused'] * 3,
    'writing',
  ]


@pytest.mark.parametrize(
  'content', ['', '{', '[1]', '{"pid": "x"}', 'null', '[' * 4096]
)
def test_a_record_that_is_none_stands_in_nobody_s_way(tmp_path, content):
  _record(tmp_path).write_text(content)
  with folder_lock.writing(os.fspath(tmp_path)):
    assert json.loads(_record(tmp_path).read_text())['pid'] == os.getpid()


def _eventually(condition) -> None:
  end = time.monotonic() + 30
  while not condition():
    assert time.monotonic() < end
    time.sleep(0.02)


def test_who_writes_can_be_asked(tmp_path, monkeypatch):
  assert folder_lock.holder(str(tmp_path / 'none')) is None
  with folder_lock.writing(str(tmp_path)):
    assert folder_lock.holder(str(tmp_path)).pid == os.getpid()
  assert folder_lock.holder(str(tmp_path)) is None
  # A killed process's record, and one of another machine.
  dead = dataclasses.replace(folder_lock.Writer.this_process(), started=1)
  _record(tmp_path).write_text(json.dumps({**dataclasses.asdict(dead)}))
  assert folder_lock.holder(str(tmp_path)) is None
  _elsewhere(tmp_path)
  assert folder_lock.holder(str(tmp_path)).host == 'other'
  now = time.time()
  for seconds, holds in ((20, True), (40, False)):
    os.utime(_record(tmp_path), (now - seconds,) * 2)
    assert (folder_lock.holder(str(tmp_path)) is not None) == holds
  # In remote storage, the time of a change says nothing.
  with monkeypatch.context() as patched:
    patched.setattr(folder_lock.paths, 'is_remote', lambda path: True)
    assert folder_lock.holder(str(tmp_path)).host == 'other'
  # What is no record holds nothing.
  _elsewhere(tmp_path)
  record = json.loads(_record(tmp_path).read_text())
  _record(tmp_path).write_text(json.dumps({**record, 'token': 7}))
  assert folder_lock.holder(str(tmp_path)) is None
