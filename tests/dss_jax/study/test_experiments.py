"""Tests of the first argument of `dss study`."""

import pytest

from dss_jax import errors
from dss_jax.data import own_rows, tfds_builders
from dss_jax.study import experiments


def test_data_sets_and_endings_are_those_of_the_data():
  assert {*experiments.DATA_SETS, 'custom'} == set(tfds_builders.DATA_SETS)
  assert experiments._ROWS == own_rows.ENDINGS


def test_what_arguments_stand_for():
  assert experiments.find('cqa') == experiments.Source(
    ('gin/dss_cqa.gin',), {}, 'tiny'
  )
  assert experiments.find('a/my.gin') == experiments.Source(
    ('a/my.gin',), {}, 'my'
  )
  assert experiments.find('a/my.jsonl') == experiments.Source(
    ('gin/dss_custom.gin',), {'DATA': "'a/my.jsonl'"}, 'tiny'
  )
  assert experiments.find('cqa', ['gin/sizes/t5_1_0/base.gin']).size == (
    't5_1_0/base'
  )


def test_files_here_hold_everywhere(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for name in ('my.gin', 'release', 'cqa'):
    (tmp_path / name).touch()
  assert experiments.absolute('my.gin') == str(tmp_path / 'my.gin')
  for name in ('gin/sizes/base.gin', 'release', 'cqa', 'gs://a/b.jsonl'):
    assert experiments.absolute(name) == name


def test_a_mistake_is_named():
  with pytest.raises(errors.DataError, match=r"Did you mean 'cqa'\?"):
    experiments.find('cqq')
