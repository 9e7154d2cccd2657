"""Each start of a run leaves its command, versions and devices."""

import json
import sys
import types

from t5x.run import provenance


def test_each_start_is_a_line(tmp_path, monkeypatch):
  devices = [types.SimpleNamespace(device_kind=kind) for kind in 'aab']
  monkeypatch.setattr(
    sys, 'argv', ['/x/t5x/train.py', '--gin.DATA="gs://me:secret@bucket/a"']
  )
  for _ in range(2):
    provenance.record(str(tmp_path), devices, 'jax 0.1\nflax 0.2')
  lines = (tmp_path / provenance.FILE).read_text().splitlines()
  first, second = map(json.loads, lines)
  assert first['command'] == [
    *('/x/t5x/train.py', '--gin.DATA="gs://[removed]@bucket/a"')
  ]
  assert second['versions'] == ['jax 0.1', 'flax 0.2']
  assert first['devices'] == {'a': 2, 'b': 1}
  assert first['commit'] == provenance.source_commit()
  assert [path.name for path in tmp_path.iterdir()] == [provenance.FILE]
