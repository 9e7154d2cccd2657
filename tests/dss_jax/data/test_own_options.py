"""Options for rows of the user's own, as commands take them."""

import pytest

from dss_jax import errors
from dss_jax.data import own_options


def test_columns_are_pairs():
  found = own_options.columns(['rationale=a,b', 'rationale=c', 'input=q'])
  assert found == {'rationale': ('a', 'b', 'c'), 'input': ('q',)}
  assert own_options.as_macro(found) == {
    'rationale': ['a', 'b', 'c'],
    'input': 'q',
  }
  for pair in ('input', 'input='):
    with pytest.raises(errors.DataError, match='expected NAME=COLUMN'):
      own_options.columns([pair])
