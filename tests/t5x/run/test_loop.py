"""The loop stops exactly where something is due."""

from hypothesis import given
from hypothesis import strategies as st

from t5x.run import loop


def test_the_next_stop_is_the_nearest_due_step():
  periods = loop.Periods(stats=4, evaluate=6, save=0)
  assert periods.next_stop(0, 10) == 4
  assert periods.next_stop(4, 10) == 6
  assert periods.next_stop(6, 10) == 8
  assert periods.next_stop(8, 10) == 10
  assert periods.gc == 0
  collecting = loop.Periods(stats=4, evaluate=6, save=0, gc=5)
  assert collecting.next_stop(4, 10) == 5


def test_everything_with_a_period_is_due_at_the_end():
  periods = loop.Periods(stats=4, evaluate=0, save=3)
  assert periods.due('evaluate', 10, 10)
  assert not periods.due('evaluate', 4, 10)
  assert periods.due('save', 9, 10)


def test_explicit_save_steps_are_stops():
  periods = loop.Periods(
    stats=100, evaluate=0, save=0, save_steps=frozenset([7])
  )
  assert periods.next_stop(0, 50) == 7
  assert periods.due('save', 7, 50)
  assert periods.next_stop(7, 50) == 50
  assert periods.next_stop(8, 50) == 50
  # They are for saving alone.
  assert not periods.due('evaluate', 7, 50)
  assert not periods.due('stats', 7, 50)


@given(
  stats=st.integers(1, 20),
  evaluate=st.integers(0, 20),
  save=st.integers(0, 20),
  start=st.integers(0, 50),
  length=st.integers(1, 60),
)
def test_no_due_step_is_stepped_over(stats, evaluate, save, start, length):
  periods = loop.Periods(stats=stats, evaluate=evaluate, save=save)
  end = start + length
  stops, step = [], start
  while step < end:
    step = periods.next_stop(step, end)
    stops.append(step)
  due = {
    s
    for s in range(start + 1, end + 1)
    for name in ('stats', 'evaluate', 'save')
    if periods.due(name, s, end)
  }
  assert set(stops) == due
  assert stops == sorted(set(stops))


def test_every_action_runs_and_one_can_stop_the_run():
  class Action:
    def __init__(self, stops):
      self._stops = stops

    def run(self, state, metrics):
      seen.append((state, metrics))
      return self._stops

  for stops in ([], [False, False], [True, False], [False, True]):
    seen: list[tuple] = []
    actions = {'train': [Action(each) for each in stops]}
    asked = loop.run_actions('train', actions, 'state', {'a': {}})
    assert asked is any(stops)
    assert seen == [('state', {'a': {}})] * len(stops)
    assert loop.run_actions('eval', actions, 'state', {}) is False
