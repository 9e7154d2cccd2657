"""Tests of t5x.checkpoints.retention."""

import pytest

from t5x.checkpoints import retention as retention_lib
from t5x.errors import UserError


def test_what_is_kept_by_rule():
  retention = retention_lib.Retention
  assert retention('x').to_keep([1, 2]) == {1, 2}
  by_period = retention('x', keep=1, force_keep_period=10)
  assert by_period.to_keep([10, 15, 20, 25]) == {10, 20, 25}
  best = retention('x', keep=1, metric='a/b')
  values = {1: 0.5, 2: 0.5, 3: float('nan'), 4: 0.1}
  assert best.to_keep([1, 2, 3, 4], values) == {2, 4}
  assert best.to_keep([0, 1, 2, 3, 4], values) == {0, 2, 4}
  strict = retention('x', 1, None, 'a/b', 'max', keep_without_metrics=False)
  assert strict.to_keep([0, 1, 2, 3, 4], values) == {2, 4}
  with pytest.raises(UserError, match=r"'max' or 'min', found 'maximum'"):
    retention('x', mode='maximum')
  with pytest.raises(UserError, match=r'keep: expected at least 1'):
    retention('x', keep=0)
