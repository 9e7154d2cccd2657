"""Tests of failures: what they say, and what is known of them."""

import doctest

import pytest

from dss_jax.extract.api import failures


def test_the_examples_in_the_docstrings_hold():
  result = doctest.testmod(failures)
  assert result.attempted and not result.failed


@pytest.mark.parametrize(
  'found',
  [
    failures.Failure('a'),
    failures.RetryableFailure('a', 3.0, True),
    failures.FatalFailure('a', 401),
  ],
)
def test_a_failure_says_what_went_wrong_and_no_more(found):
  assert str(found) == 'a'


def test_what_is_not_known_of_a_failure_is_not_made_up():
  again = failures.RetryableFailure('a')
  assert (again.wait, again.unreachable) == (None, False)
  assert failures.FatalFailure('a').status == 0
