"""Charts of values by step: which steps the axis shows."""

import re

import pytest

from dss_jax.report import line_charts


@pytest.mark.parametrize(
  ('steps', 'first'),
  [
    ((1000,), '0'),
    ((100, 500, 1000), '0'),
    # A run that began at the step of a pretrained checkpoint.
    ((1_000_000, 1_010_000), '1,000,000'),
  ],
)
def test_the_axis_of_steps_begins_where_the_run_did(steps, first):
  curve = line_charts.Curve('a', 0, tuple((step, 0.5) for step in steps))
  svg = line_charts.inline('accuracy', [curve], 'x')
  ticks = re.findall(r'>([\d,]+)</text>', svg)
  assert ticks[0] == first
  assert int(ticks[-1].replace(',', '')) <= 1.03 * steps[-1]
