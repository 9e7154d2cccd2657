"""What stops a run."""

import types

import numpy as np
import pytest
from clu import values

from t5x import errors
from t5x.trainer import actions

STATE = types.SimpleNamespace(step=3)


def run(action, *series, task='task', metric='loss'):
  return [
    action.run(STATE, {task: {metric: values.Scalar(np.float32(x))}})
    for x in series
  ]


@pytest.mark.parametrize(
  ('mode', 'patience', 'series', 'stops'),
  [
    # A flat loss stops at the third value.
    ('min', 3, [1.0, 1.0, 1.0], [False, False, True]),
    ('min', 2, [1.0, 3.0], [False, True]),
    ('min', 3, [3.0, 2.0, 2.5, 2.4, 2.4, 2.5], [False] * 5 + [True]),
    # Each value is compared with the one before it, not with the best.
    ('min', 2, [1.0, 0.5, 0.4, 0.3], [False] * 4),
    ('max', 3, [1.0, 2.0, 1.0, 1.5, 1.5, 1.5], [False] * 5 + [True]),
    ('max', 1, [1.0, 2.0, 1.0], [False, False, True]),
  ],
)
def test_a_run_stops_when_no_value_improves(mode, patience, series, stops):
  action = actions.EarlyStoppingAction(('task', 'loss'), mode, patience)
  assert run(action, *series) == stops


def test_a_small_change_is_no_improvement():
  action = actions.EarlyStoppingAction(
    ('task', 'loss'), 'min', patience=2, atol=0.5
  )
  assert run(action, 3.0, 2.6) == [False, True]
  action = actions.EarlyStoppingAction(
    ('task', 'loss'), 'min', patience=2, rtol=0.5
  )
  assert run(action, 4.0, 1.5, 0.9) == [False, False, True]
  action = actions.EarlyStoppingAction(
    ('task', 'accuracy'), 'max', patience=2, atol=0.5
  )
  assert run(action, 2.6, 3.0, metric='accuracy') == [False, True]


def test_three_values_are_looked_at_by_default():
  action = actions.EarlyStoppingAction(('task', 'loss'), 'min')
  assert run(action, 2.0, 2.5, 2.5) == [False, False, True]


def test_an_action_has_a_mode_of_its_own_and_says_what_it_does():
  # T5X's numbers; one that two share would call the actions of both.
  assert [mode.value for mode in actions.ActionMode] == [1, 2, 3]
  with pytest.raises(TypeError, match='abstract'):
    actions.BaseAction()


def test_a_metric_that_is_absent_stops_nothing():
  action = actions.EarlyStoppingAction(('task', 'loss'), 'min', patience=1)
  assert run(action, 1.0, 2.0, metric='accuracy') == [False, False]
  assert not actions.TerminateOnNanAction('train').run(STATE, {})


def test_a_mode_is_min_or_max():
  with pytest.raises(errors.UserError, match="Did you mean 'max'"):
    actions.EarlyStoppingAction(('task', 'loss'), 'maxx')


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_the_run(bad):
  action = actions.TerminateOnNanAction('train')
  assert run(action, 1.0, bad, task='train') == [False, True]
