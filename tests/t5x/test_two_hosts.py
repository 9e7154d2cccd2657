"""Two processes of four devices train as one process of eight does."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import pytest

import t5x

_WORKER = """
import json, sys
import jax
port, process = int(sys.argv[1]), int(sys.argv[2])
jax.distributed.initialize(f'localhost:{port}', 2, process)
import numpy as np
from tests.t5x import toy_model
from t5x import metrics, trainer

model = toy_model.ToyModel(noise=0.1)
partitioner = toy_model.partitioner()
state = toy_model.state(model)
layout = partitioner.get_data_layout(16)
axes = partitioner.get_mesh_axes(state)

def rows(seed):
  batch = toy_model.batch(rows=16, seed=seed)
  first = layout.shard_id * layout.batch_size
  return {k: v[first : first + layout.batch_size] for k, v in batch.items()}

with trainer.Trainer(model, state, partitioner, ['task'], sys.argv[3], axes,
                     jax.random.key(1), lambda _: 0.1, 2) as t:
  values = t.train(iter([rows(i) for i in range(3)]), 3).result()
  evaluated = t.eval({'task': iter([rows(9)])})['task']
  print(json.dumps({
    'layout': [layout.batch_size, layout.shard_id, layout.num_shards],
    'loss': float(values['loss'].value),
    'rows': float(values['rows'].value),
    'eval': float(evaluated['loss'].value),
    'w': np.asarray(t.train_state.params['w']).tolist(),
  }))
"""


def _run(processes, summary_dir):
  with socket.socket() as s:
    s.bind(('localhost', 0))
    port = s.getsockname()[1]
  devices = 8 // processes
  env = {
    **os.environ,
    'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}',
  }
  code = _WORKER
  if processes == 1:
    code = code.replace('jax.distributed.initialize', '(lambda *_: None)')
  workers = [
    subprocess.Popen(
      [sys.executable, '-c', code, str(port), str(i), str(summary_dir)],
      cwd=pathlib.Path(t5x.__file__).parents[1],
      env=env,
      stdout=subprocess.PIPE,
      text=True,
    )
    for i in range(processes)
  ]
  outputs = [worker.communicate(timeout=300)[0] for worker in workers]
  assert all(worker.returncode == 0 for worker in workers)
  return [json.loads(out.strip().splitlines()[-1]) for out in outputs]


@pytest.mark.slow
def test_two_hosts_train_as_one_does(tmp_path):
  (one,) = _run(1, tmp_path / 'one')
  first, second = _run(2, tmp_path / 'two')
  assert (first['layout'], second['layout']) == ([8, 0, 2], [8, 1, 2])
  assert first['rows'] == one['rows'] == 48
  for name in ('loss', 'eval'):
    assert first[name] == second[name] == pytest.approx(one[name], rel=1e-5)
  for mine, other in zip(first['w'], one['w'], strict=True):
    assert mine == pytest.approx(other, rel=1e-5)
  rows = (tmp_path / 'two' / 'train' / 'metrics.jsonl').read_text()
  assert len(rows.splitlines()) == 2
