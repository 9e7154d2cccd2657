"""Questions of a file as a task, from the first or from any later one."""

import json

import numpy as np
import pytest
import seqio

from dss_jax import questions

_LENGTHS = {'inputs': 12, 'targets': 4}


@pytest.mark.parametrize('explain', [False, True])
def test_examples_after_some_are_those_that_follow_them(tmp_path, explain):
  path = tmp_path / 'asked [1] +.jsonl'
  rows = [
    {'input': f'is {n} odd?' * (n % 3 + 1), 'label': 'yes', 'rationale': 'so'}
    for n in range(23)
  ]
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  name = questions.inputs(str(path), 'custom', '', 'dss', explain)
  task = seqio.TaskRegistry.get(name)
  options = {
    'sequence_length': _LENGTHS,
    'split': 'eval',
    'shuffle': False,
    'seed': 0,
    'trim_output_features': True,
  }
  whole = list(task.get_dataset(**options).as_numpy_iterator())
  assert len(whole) == 23
  for before in (0, 1, 20, 23):
    after = task.get_dataset_after(before, **options)
    assert int(after.cardinality()) == 23 - before
    found = list(after.as_numpy_iterator())
    for one, other in zip(found, whole[before:], strict=True):
      assert one.keys() == other.keys()
      for key, value in one.items():
        np.testing.assert_array_equal(value, other[key])
