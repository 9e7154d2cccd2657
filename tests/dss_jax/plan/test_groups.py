"""Groups of chips."""

import pytest

from dss_jax.plan import groups


@pytest.mark.parametrize(
  ('attributes', 'expected'),
  [
    ('replica_groups={{0,2},{1,3}}', [0, 2]),
    ('replica_groups=[2,2]<=[4], x', [0, 1]),
    ('replica_groups=[2,2]<=[2,2]T(1,0)', [0, 2]),
    ("replica_groups=mesh['a'=2,'b'=2] {'b'}", [0, 1]),
    ("replica_groups=mesh['a'=2,'b'=2] {'a'}", [0, 2]),
    ("replica_groups=mesh['a'=2,'b'=2] {'a','b'}", [0, 1, 2, 3]),
    ("replica_groups=mesh['a'=4] {'a':(1)2}", [0, 2]),
    ("replica_groups=mesh['a'=4] {'a':(2)2}", [0, 1]),
    ('replica_groups={}', [0, 1, 2, 3]),
    ('', [0, 1, 2, 3]),
  ],
)
def test_the_first_group_is_read_in_every_notation(attributes, expected):
  assert groups.first_group(attributes, 4) == expected
