"""Rows of a step are few, and hold its longest steps."""

import numpy as np
import pytest

from dss_jax import errors
from dss_jax.pipeline import cached_tasks, orders, packing, step_rows
from tests.dss_jax.pipeline import made_mixtures

SHAPE = (64, 32)


@pytest.fixture(autouse=True)
def _nothing_laid_out(monkeypatch):
  monkeypatch.setattr(step_rows, '_LAYOUTS', {})


def lengths_of(seed, count, inputs=30, targets=12):
  rng = np.random.default_rng(seed)
  return np.stack(
    [rng.integers(1, inputs, count), rng.integers(1, targets, count)], 1
  )


LABELS, RATIONALES = lengths_of(0, 90, 40, 5), lengths_of(1, 70, 20, 30)


def mixture(rates=(2.0, 1.0), labels=LABELS, rationales=RATIONALES):
  """A mixture of both tasks, of which SeqIO puts the labels second."""
  made_mixtures.task('made_b_labels', labels)
  made_mixtures.task('made_a_rationales', rationales)
  tasks = [('made_b_labels', rates[0])]
  if rates[1]:
    tasks.append(('made_a_rationales', rates[1]))
  return cached_tasks.Mixture('made_mixture', tasks)


def request(labels=16, **options):
  options = {'lengths': SHAPE, 'pack': True, 'multiple': 1, 'rows': None,
             'seed': 3, 'parts': 1, **options}  # fmt: skip
  return step_rows.Request(labels, 'made_b_labels', **options)


def expected_most(rows, counts, sizes, parts=1):
  """How long examples may be on average: rows are filled to 97.5%."""
  mean = sum(n / parts * s.mean(0) for n, s in zip(counts, sizes, strict=True))
  room = rows // parts * np.array(SHAPE) * 0.975
  longer = np.maximum(room / mean, 1.01)
  return [tuple(s.mean(0) * longer) for s in sizes]


@pytest.mark.parametrize(
  ('options', 'counts', 'rows'),
  [
    ({}, (8, 16), 9),
    ({'parts': 2}, (8, 16), 12),
    ({'parts': 2, 'multiple': 3}, (8, 16), 12),
    ({'labels': 5, 'seed': 2**32 + 3}, (2.5, 5), 4),
    ({'labels': 1}, (0.5, 1), 2),
  ],
)
def test_rows_are_as_few_as_hold_the_first_steps(options, counts, rows):
  asked = request(**options)
  found = step_rows.layout(mixture(), asked)
  sizes = [np.minimum(x, SHAPE) for x in (RATIONALES, LABELS)]
  assert (found.mixture, found.labels) == ('made_mixture', asked.labels)
  assert (found.examples, found.per_task) == (90, counts)
  assert (found.parts, found.row_shape) == (asked.parts, SHAPE)
  assert found.rows == rows
  assert rows % asked.parts == rows % asked.multiple == 0
  most = expected_most(rows, counts, sizes, asked.parts)
  np.testing.assert_allclose(found.most, most)
  mean = sum(n * s.mean(0) for n, s in zip(counts, sizes, strict=True))
  np.testing.assert_allclose(found.fill, mean / (rows * np.array(SHAPE)))
  # As many rows do where they are asked for, and any steps fit into them.
  given = request(**options, rows=rows)
  assert step_rows.layout(mixture(), given) == found
  a_window = [count / asked.parts for count in counts]
  seen = [
    orders.Order(len(s), a, (3, i), s, m)
    for i, (a, s, m) in enumerate(zip(a_window, sizes, found.most, strict=True))
  ]
  for window in range(40):
    units = np.concatenate(
      [s[o.window(window)] for s, o in zip(sizes, seen, strict=True)]
    )
    packing.assign_to_rows(*units.T, SHAPE, rows // asked.parts)


def test_given_rows_are_enough_or_an_error():
  fewest = step_rows.layout(mixture(), request()).rows
  with pytest.raises(
    errors.DataError,
    match=rf'ROWS_PER_STEP is {fewest - 2}, too few for LABELS_PER_STEP = 16:'
    r' \d+ examples of \d+ input and',
  ):
    step_rows.layout(mixture(), request(rows=fewest - 2))
  with pytest.raises(errors.DataError, match=r'multiple of 6, .* such as 12'):
    step_rows.layout(mixture(), request(rows=8, parts=2, multiple=3))
  assert step_rows.layout(mixture(), request(rows=90)).rows == 90
  assert step_rows.layout(mixture((1.0, 0.0)), request(1)).rows == 1


@pytest.mark.parametrize(
  ('options', 'rates', 'needed'),
  [({}, (2.0, 1.0), 24), ({'parts': 2}, (2.0, 1.0), 24),
   ({'labels': 5}, (2.0, 1.0), 8), ({'labels': 5}, (1.0, 0.0), 5),
   ({'labels': 6, 'parts': 2}, (1.0, 0.3), 8)],
)  # fmt: skip
def test_without_packing_each_example_has_a_row(options, rates, needed):
  asked = request(**options, pack=False)
  found = step_rows.layout(mixture(rates), asked)
  assert found.rows == needed
  assert found.most == (None,) * (1 + bool(rates[1]))
  exact = request(**options, pack=False, rows=needed)
  assert step_rows.layout(mixture(rates), exact) == found
  few = needed - asked.parts
  with pytest.raises(errors.DataError, match=rf'{needed} examples need a row'):
    step_rows.layout(mixture(rates), request(**options, pack=False, rows=few))


def test_examples_without_targets_and_long_ones_take_what_they_are_cut_to():
  labels = np.array([[90, 40], [50, 0]] * 20)
  found = step_rows.layout(mixture((1.0, 0.0), labels), request(4))
  # Of four examples two fill a row each.
  np.testing.assert_allclose(np.array(found.fill) * found.rows, 2.0)


def test_of_a_set_that_is_not_kept_some_stand_for_all(monkeypatch):
  kept = step_rows.layout(mixture((1.0, 0.0)), request(64))
  monkeypatch.setattr(cached_tasks, '_SMALL', 1)
  found = step_rows.layout(mixture((1.0, 0.0)), request(65))
  assert found.most == (None,)
  np.testing.assert_allclose(
    np.array(found.fill) * found.rows / 65, np.array(kept.fill) * kept.rows / 64
  )
  # Three in a hundred are added for steps that were not looked at.
  assert found.rows == 26
  given = request(65, rows=found.rows - 1)
  assert step_rows.layout(mixture((1.0, 0.0)), given).rows == found.rows - 1
  monkeypatch.setattr(step_rows, '_SAMPLE', 5)
  sample = LABELS[[0, 22, 44, 66, 89]]
  found = step_rows.layout(mixture((1.0, 0.0)), request(7))
  np.testing.assert_allclose(
    np.array(found.fill) * found.rows * SHAPE, 7 * sample.mean(0)
  )


def test_what_was_laid_out_is_not_laid_out_again(monkeypatch):
  first = step_rows.layout(mixture(), request())
  monkeypatch.setattr(step_rows, '_Search', None)
  assert step_rows.layout(mixture(), request()) is first
