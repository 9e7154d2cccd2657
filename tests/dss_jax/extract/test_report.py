"""Tests of the report's numbers."""

import collections

import hypothesis
import numpy as np
from hypothesis import strategies as st

from dss_jax.extract import estimate, report


@hypothesis.given(st.lists(st.integers(1, 50), min_size=1))
@hypothesis.settings(max_examples=50, deadline=None)
def test_percentiles_are_those_of_the_nearest_rank(values):
  found = report.percentiles(collections.Counter(values))
  expected = {
    str(p): int(np.percentile(values, p, method='inverted_cdf'))
    for p in report.PERCENTILES
  }
  assert found == expected


def test_nothing_has_no_percentiles():
  assert report.percentiles({}) == {}


def test_cost_counts_both_ways():
  usage = {'prompt_tokens': 2_000_000, 'completion_tokens': 500_000}
  assert report.cost(usage, estimate.Prices(1.5, 4.0)) == 5.0
  assert report.cost(usage, estimate.Prices()) is None


def test_a_histogram_is_a_picture(tmp_path):
  for words in ({7: 1}, {1: 5, 400: 1, 30: 8}):
    report.histogram(words, tmp_path / 'lengths.png')
    assert (tmp_path / 'lengths.png').stat().st_size > 1000
