"""Reports are delivered in order, and a tracker's trouble is not the run's."""

import threading
import time

from dss_jax.trackers import delivery


class Recorder:
  """A tracked run that keeps what it gets, and fails when told to."""

  place = 'here'

  def __init__(self):
    self.reports = []
    self.failing = False
    self.finished = None
    self.seen = threading.Event()

  def report(self, step, metrics):
    self.seen.set()
    if self.failing:
      raise ConnectionError('http://me:secret@server is away\x1b[2J')
    self.reports.append((step, dict(metrics)))

  def close(self, finished):
    self.finished = finished


def _wait_until(condition):
  end = time.monotonic() + 10
  while not condition() and time.monotonic() < end:
    time.sleep(0.005)
  assert condition()


def test_reports_come_in_order_and_the_end_says_where(capsys):
  tracked = Recorder()
  made = delivery.Delivery('mlflow', lambda: tracked)
  for step in range(50):
    made.put(step, {'loss': step / 2})
  made.finish()
  made.close()
  assert tracked.reports == [(n, {'loss': n / 2}) for n in range(50)]
  assert tracked.finished is True
  assert capsys.readouterr().err == 'mlflow: here\n'
  made.close()  # Once is enough.
  assert capsys.readouterr().err == ''


def test_what_failed_is_delivered_when_the_server_is_back(capsys):
  tracked = Recorder()
  made = delivery.Delivery('mlflow', lambda: tracked)
  tracked.failing = True
  for step in range(3):
    tracked.seen.clear()
    made.put(step, {})
    _wait_until(tracked.seen.is_set)
  tracked.failing = False
  made.put(3, {})
  made.close()
  assert [step for step, _ in tracked.reports] == [0, 1, 2, 3]
  assert tracked.finished is False
  said = capsys.readouterr().err
  assert said.count('could not be delivered') == 1
  assert 'Training goes on' in said and said.endswith('mlflow: here\n')
  assert 'secret' not in said and '\x1b' not in said


def test_a_server_that_stays_away_is_warned_of_once_and_told_at_the_end(
  capsys,
):
  def begin():
    raise OSError('no route')

  made = delivery.Delivery('wandb', begin)
  for step in range(4):
    made.put(step, {})
  made.close()
  said = capsys.readouterr().err
  assert said.count('Training goes on') == 1
  assert '4 of 4 reports were not delivered (OSError: no route)' in said


def test_a_server_that_hangs_blocks_neither_a_report_nor_the_end(capsys):
  hanging = threading.Event()

  def begin_late():
    hanging.wait(10)
    return Recorder()

  made = delivery.Delivery('mlflow', begin_late, patience=0.2)
  begin = time.monotonic()
  for step in range(5):
    made.put(step, {})
  assert time.monotonic() - begin < 1
  made.close()
  assert time.monotonic() - begin < 5
  assert '5 of 5 reports were not delivered.' in capsys.readouterr().err
  hanging.set()


def test_what_waits_is_bounded_and_what_is_lost_is_counted(capsys, monkeypatch):
  monkeypatch.setattr(delivery, '_MOST_WAITING', 3)
  tracked = Recorder()
  ready = threading.Event()

  def begin():
    ready.wait(10)
    return tracked

  made = delivery.Delivery('mlflow', begin)
  for step in range(8):
    made.put(step, {})
  ready.set()
  made.close()
  assert [step for step, _ in tracked.reports] == [5, 6, 7]
  assert '5 of 8 reports were not delivered.' in capsys.readouterr().err


def test_a_run_without_a_report_says_nothing(capsys):
  delivery.Delivery('mlflow', Recorder).close()
  assert capsys.readouterr().err == ''
