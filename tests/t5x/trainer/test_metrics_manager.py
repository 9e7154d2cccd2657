"""JSONL files and the manager that times and writes metrics."""

import concurrent.futures
import json
import threading
import time
import types

import flax
import numpy as np
import pytest
from clu import values as clu_values

from t5x import metrics
from t5x.trainer import metrics_manager


def lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_write_is_a_line(tmp_path):
  path = tmp_path / 'new' / 'folder' / 'metrics.jsonl'
  writer = metrics_manager.JsonlWriter(str(path))
  writer.write_scalars(1, {'loss': np.float32(2.5), 'n': np.int64(3)})
  writer.write_scalars(2, {'loss': float('nan')})
  first, second = lines(path)
  assert first == {'step': 1, 'loss': 2.5, 'n': 3}
  assert second['step'] == 2 and np.isnan(second['loss'])


def test_a_line_that_a_kill_cut_off_is_removed(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_text('{"step": 1}\n{"step": 2, "lo')
  writer = metrics_manager.JsonlWriter(str(path))
  writer.write_scalars(2, {'loss': 1.0})
  assert lines(path) == [{'step': 1}, {'step': 2, 'loss': 1.0}]


def test_a_writer_without_a_folder_writes_nothing(tmp_path):
  writer = metrics_manager.create_writer('train', None)
  writer.write_scalars(1, {'loss': 1.0})
  writer.write_texts(1, {'config': 'x'})
  writer.close()
  assert not list(tmp_path.iterdir())


def test_only_the_first_process_writes(tmp_path, monkeypatch):
  monkeypatch.setattr(metrics_manager.jax, 'process_index', lambda: 1)
  writer = metrics_manager.create_writer('train', str(tmp_path))
  writer.write_scalars(1, {'loss': 1.0})
  assert not list(tmp_path.iterdir())


def test_texts_go_to_tensorboard(tmp_path):
  writer = metrics_manager.create_writer('train', str(tmp_path))
  writer.write_texts(0, {'config': 'abc'})
  writer.write_hparams({'alpha': 0.5})
  writer.close()
  (events,) = (tmp_path / 'train').glob('events.out.tfevents*')
  assert b'abc' in events.read_bytes()


def test_the_manager_computes_times_and_writes(tmp_path):
  manager = metrics_manager.MetricsManager('train', str(tmp_path))
  manager.start_duration_timer(block_on=np.ones(2))
  time.sleep(0.05)
  future = manager.write_metrics_summary(
    {
      'loss': metrics.AveragePerStep.from_model_output(np.float32(6.0)),
      'seconds': metrics.Time(),
    },
    step=7,
    num_steps=3,
  )
  values = future.result()
  assert float(values['loss'].value) == 2.0
  assert values['seconds'].value >= 0.05
  manager.write_scalar('extra', 1.5, 8)
  manager.flush()
  first, second = lines(tmp_path / 'train' / 'metrics.jsonl')
  assert first['loss'] == 2.0
  assert second == {'step': 8, 'extra': 1.5}
  manager.close()


def test_no_time_counts_twice():
  manager = metrics_manager.MetricsManager('train')
  part = {'seconds': metrics.Time()}
  start = time.perf_counter()
  manager.start_duration_timer()
  total = 0.0
  for step in range(3):
    # The timer isn't started again, as if all were dispatched at once.
    time.sleep(0.02)
    values = manager.write_metrics_summary(part, step, 1).result()
    total += values['seconds'].value
  assert 0.06 <= total <= time.perf_counter() - start
  manager.close()


def test_time_runs_from_the_timer_or_from_the_summary_before(monkeypatch):
  clock = types.SimpleNamespace(now=100.0)
  monkeypatch.setattr(
    metrics_manager,
    'time',
    types.SimpleNamespace(perf_counter=lambda: clock.now),
  )
  manager = metrics_manager.MetricsManager('train')
  took = []
  for begin, end in ((107.0, 110.0), (None, 115.0), (120.0, 121.0)):
    if begin is not None:
      # What is waited for is over when the time begins.
      waited = types.SimpleNamespace(
        block_until_ready=lambda begin=begin: setattr(clock, 'now', begin)
      )
      manager.start_duration_timer(waited)
    clock.now = end
    part = {'seconds': metrics.Time()}
    values = manager.write_metrics_summary(part, 1, 1).result()
    took.append(values['seconds'].value)
  assert took == [3, 5, 1]
  manager.close()


def test_several_parts_are_merged():
  manager = metrics_manager.MetricsManager('eval')
  parts = [{'sum': metrics.Sum(i)} for i in (1, 2, 4)]
  values = manager.write_metrics_summary(parts, 1, 2).result()
  assert int(values['sum'].value) == 7
  manager.close()


def _events(folder):
  (path,) = (folder / 'train').glob('events.out.tfevents*')
  return path.read_bytes()


@flax.struct.dataclass
class _Words(metrics.Sum):
  """Has a text in place of a number."""

  def compute_value(self):
    return clu_values.Text('some words')


def test_what_is_written_is_there_at_once(tmp_path):
  # A run that is killed has lost nothing of what it has reported.
  manager = metrics_manager.MetricsManager('train', str(tmp_path))
  manager.write_metrics_summary({'summed': metrics.Sum(1)}, 1, 1).result()
  assert b'summed' in _events(tmp_path)
  manager.write_scalar('flushed', 1.5, 2)
  manager.flush()
  assert b'flushed' in _events(tmp_path)
  manager.write_metrics_summary({'said': _Words(1)}, 3, 1).result()
  assert b'some words' in _events(tmp_path)
  manager.write_scalar('closed', 1.5, 4)
  manager.close()
  assert b'closed' in _events(tmp_path)
  steps = [x['step'] for x in lines(tmp_path / 'train' / 'metrics.jsonl')]
  assert steps == [1, 2, 4]  # A text alone makes no line.


def test_a_manager_that_wrote_nothing_can_be_flushed_and_closed(tmp_path):
  manager = metrics_manager.MetricsManager('train', str(tmp_path))
  manager.flush()
  manager.close()
  assert not list(tmp_path.iterdir())


def test_summaries_are_written_in_their_order_also_by_close(tmp_path):
  second = threading.Event()

  @flax.struct.dataclass
  class Slow(metrics.Sum):
    def compute_value(self):
      second.wait(0.1)  # Would come, were there a thread for each.
      return super().compute_value()

  manager = metrics_manager.MetricsManager('train', str(tmp_path))
  manager.write_scalar('loss', 0.5, 0)  # Makes the writer, which takes longer.
  first = manager.write_metrics_summary({'x': Slow(1)}, 1, 1)
  assert not metrics_manager.ArrayMapFuture(first, lambda: None).done()
  last = manager.write_metrics_summary({'x': metrics.Sum(1)}, 2, 1)
  last.add_done_callback(lambda _: second.set())
  manager.close()
  assert not concurrent.futures.wait([first, last], timeout=0).not_done
  found = lines(tmp_path / 'train' / 'metrics.jsonl')
  assert [line['step'] for line in found] == [0, 1, 2]


def test_an_error_reaches_the_future():
  manager = metrics_manager.MetricsManager('eval')
  parts = [{'a': metrics.Sum(1)}, {'b': metrics.Sum(2)}]
  future = manager.write_metrics_summary(parts, 1, 2)
  with pytest.raises(ValueError, match='expected the same names'):
    future.result()
  manager.close()


def test_tensorflow_is_given_no_python_number():
  # It would keep a tensor of each, for as long as the process lives.
  class Recorder:
    def write_scalars(self, step, scalars):
      self.seen = [step, *scalars.values()]

  recorder = Recorder()
  metrics_manager.MultiWriter([recorder]).write_scalars(3, {'a': 1.5, 'b': 2})
  assert [type(value) for value in recorder.seen] == [np.ndarray] * 3
  assert [value.item() for value in recorder.seen] == [3, 1.5, 2]
