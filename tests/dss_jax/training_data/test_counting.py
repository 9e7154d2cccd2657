"""What a run trains on, counted, and kept in its folder."""

import json
import pathlib

from dss_jax import mixtures
from dss_jax.pipeline import lengths
from dss_jax.training_data import counting, record
from tests.dss_jax.pipeline import test_lengths


def test_rows_that_are_cut_or_left_out_are_counted(tmp_path, tfds_dir):
  given = {'inputs': 20, 'targets': 10}
  experiment, cuts = test_lengths.cuts(tmp_path, given)
  found = counting.count(experiment, cuts, given, None, total_steps=10)
  label, rationale = found.tasks
  assert (label.drawn, label.used, label.counted) == (4, 4, 4)
  assert (rationale.drawn, rationale.used) == (4, 3)
  assert 'rationale' in rationale.needs
  assert (rationale.cut_inputs, rationale.cut_targets) == (0, 1)
  assert list(rationale.longest) == [20, 31]
  assert found.rows['train'] == 4 and found.lengths == given
  assert found.step == {}
  counting.write(str(tmp_path), found)
  assert record.read(pathlib.Path(tmp_path)) == record.read(
    pathlib.Path(tmp_path)
  )
  read = record.read(tmp_path)
  assert json.loads(json.dumps(read, default=vars)) == json.loads(
    json.dumps(found, default=vars)
  )
  assert record.read(tmp_path / 'other') is None


def test_a_step_is_described(tfds_dir):
  experiment = mixtures.Experiment('cqa', method='dss', paired=True)
  step = mixtures.Step(
    experiment, {'inputs': 120, 'targets': 80}, labels_per_step=16
  )
  found = counting.count(
    experiment, lengths.run_cuts(experiment, None), None, step, 90
  )
  assert (found.data_set, found.place) == ('cqa', 'sample')
  (pair,) = found.tasks
  assert pair.teacher_right is not None and 0 < pair.teacher_right <= pair.used
  assert found.step['labels'] == 16 and found.step['rows'] >= 1
  assert found.step['epochs'] == 90 * 16 / found.rows['train']
