"""JSONL files and the manager that times and writes metrics."""

import json
import time

import numpy as np
import pytest

from t5x import metrics
from t5x.trainer import metrics_manager


def lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_write_is_a_line(tmp_path):
  path = tmp_path / 'new' / 'metrics.jsonl'
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


def test_several_parts_are_merged():
  manager = metrics_manager.MetricsManager('eval')
  parts = [{'sum': metrics.Sum(1)}, {'sum': metrics.Sum(2)}]
  values = manager.write_metrics_summary(parts, 1, 2).result()
  assert int(values['sum'].value) == 3
  manager.close()


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
