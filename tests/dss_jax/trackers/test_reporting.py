"""Which trackers a run has, and what they get."""

import json
import threading
import types

import numpy as np
import pytest
from clu import values

from dss_jax import errors, trackers
from dss_jax.trackers import reporting


class Screen:
  """Stands for what is called after an evaluation anyway."""


def test_without_trackers_nothing_is_added(tmp_path):
  screen = Screen()
  for none in ((), [], ''):
    found = trackers.actions(none, str(tmp_path), 9, [screen])
    assert found == {'INFER_EVAL': [screen]}


@pytest.fixture
def given(monkeypatch):
  """What a delivery is given, in order."""
  given = []
  monkeypatch.setattr(reporting, '_TRACKERS', {'mlflow': ('json', 'json')})
  monkeypatch.setattr(
    reporting.delivery,
    'Delivery',
    lambda name, begin: types.SimpleNamespace(
      put=lambda step, metrics: given.append((name, step, metrics)),
      finish=lambda: given.append((name, 'finish')),
      close=lambda: given.append((name, 'close')),
    ),
  )
  return given


def _evaluating(monkeypatch, **bound):
  """Sets what gin binds for `train` to measure with."""
  lines = [f'train.{k}_eval_dataset_cfg = {v}\n' for k, v in bound.items()]
  monkeypatch.setattr(
    reporting.gin, 'config_str', lambda max_line_length: ''.join(lines)
  )


def test_trackers_see_all_metrics_and_the_screen_comes_first(
  tmp_path, monkeypatch, given
):
  _evaluating(monkeypatch, train='@a/D()', infer='@b/D()')
  screen = Screen()
  found = trackers.actions('mlflow', str(tmp_path), 9, [screen])
  assert set(found) == {'TRAIN', 'TRAIN_EVAL', 'INFER_EVAL'}
  assert found['INFER_EVAL'][0] is screen
  state = types.SimpleNamespace(step=np.int32(9))
  loss = {'loss': values.Scalar(np.float32(2.5)), 'text': values.Text('x')}
  assert not found['TRAIN'][0].run(state, {'train': loss})
  assert not found['TRAIN_EVAL'][0].run(state, {'a_task': loss})
  assert not found['INFER_EVAL'][1].run(
    state, {'test': {'accuracy': 75.0, 'n': np.int64(3), 'names': ['a']}}
  )
  assert given == [
    ('mlflow', 9, {'train/loss': 2.5}),
    ('mlflow', 9, {'training_eval/a_task/loss': 2.5}),
    (
      'mlflow',
      9,
      {'inference_eval/test/accuracy': 75.0, 'inference_eval/test/n': 3.0},
    ),
    ('mlflow', 'finish'),
    ('mlflow', 'close'),
  ]


@pytest.mark.parametrize(
  ('bound', 'modes', 'last'),
  [
    ({}, ('TRAIN',), 'TRAIN'),
    ({'infer': 'None', 'train': 'None'}, ('TRAIN',), 'TRAIN'),
    ({'train': '@a/D()'}, ('TRAIN', 'TRAIN_EVAL'), 'TRAIN_EVAL'),
    # One whose predictions failed is not finished.
    ({'train': '@a/D()', 'infer': '@b/D()'}, ('TRAIN', 'TRAIN_EVAL'), None),
  ],
)
def test_a_run_is_finished_after_what_it_does_last(
  bound, modes, last, tmp_path, monkeypatch, given
):
  _evaluating(monkeypatch, **bound)
  found = trackers.actions('mlflow', str(tmp_path), 9)
  ended = {}
  for step in (8, 9):
    state = types.SimpleNamespace(step=np.int32(step))
    for mode in modes:
      given.clear()
      found[mode][0].run(state, {'train': {'loss': 1.0}})
      ended[step, mode] = ('mlflow', 'finish') in given
  assert ended == {
    (step, mode): (step, mode) == (9, last) for step in (8, 9) for mode in modes
  }


def test_only_the_first_process_reports(tmp_path, monkeypatch):
  monkeypatch.setattr(reporting, '_TRACKERS', {'mlflow': ('json', 'json')})
  monkeypatch.setattr(reporting.jax, 'process_index', lambda: 1)
  found = trackers.actions(['mlflow'], str(tmp_path), 9)
  # It has the same actions, so that all processes do the same.
  assert set(found) == {'TRAIN', 'TRAIN_EVAL', 'INFER_EVAL'}
  state = types.SimpleNamespace(step=np.int32(9))
  for (action,) in found.values():
    assert not action.run(state, {'train': {'loss': 1.0}})
  assert not list(tmp_path.iterdir())


def test_a_name_that_is_no_trackers_is_an_error():
  with pytest.raises(
    errors.DataError,
    match=r"TRACKERS is 'mflow': expected one of mlflow, wandb\. Did you mean",
  ):
    trackers.actions(('mflow',), 'x', 9)


def test_a_package_that_is_not_installed_is_an_error_with_its_extra(
  monkeypatch,
):
  monkeypatch.setattr(reporting, '_TRACKERS', {'wandb': ('x', 'no_such_one')})
  with pytest.raises(
    errors.DataError, match=r"no_such_one .* pip install 'dss-jax\[wandb\]'"
  ):
    trackers.actions('wandb', 'x', 9)


def test_ids_are_kept_in_the_folder(tmp_path):
  assert reporting.kept(str(tmp_path)) == {}
  reporting._keep(str(tmp_path), {'mlflow': {'run_id': 'a'}})
  assert reporting.kept(str(tmp_path)) == {'mlflow': {'run_id': 'a'}}
  assert [path.name for path in tmp_path.iterdir()] == [reporting.FILE]
  for text in ('[]', '{"mlflow": 3}', '{'):
    (tmp_path / reporting.FILE).write_text(text)
    with pytest.raises(errors.DataError, match='Remove the file'):
      reporting.kept(str(tmp_path))
  (tmp_path / reporting.FILE).write_text(json.dumps({}))
  assert reporting.kept(str(tmp_path)) == {}


def test_trackers_that_begin_at_once_lose_no_id(tmp_path, monkeypatch):
  names = [f't{n}' for n in range(8)]
  begin = types.SimpleNamespace(
    begin=lambda name, before, **_: (name, {'id': str(before)})
  )
  monkeypatch.setattr(reporting, '_TRACKERS', dict.fromkeys(names, ('x', 'y')))
  monkeypatch.setattr(reporting.importlib, 'import_module', lambda _: begin)
  threads = [
    threading.Thread(target=reporting._begin, args=(name, str(tmp_path), {}))
    for name in names
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert sorted(reporting.kept(str(tmp_path))) == names
