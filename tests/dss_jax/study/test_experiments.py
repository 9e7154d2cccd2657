"""Tests of the first argument of `dss study`."""

import pytest

from dss_jax import errors
from dss_jax.data import tfds_builders
from dss_jax.study import experiments


def test_data_sets_are_those_of_the_data():
  assert {*experiments.DATA_SETS, 'custom'} == set(tfds_builders.DATA_SETS)


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


@pytest.mark.parametrize(
  'rows', ['rows.json', 'rows.jsonl.gz', 'rows.tsv', 'a/part-*.csv', 'folder']
)
def test_rows_of_every_form_are_known(rows, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'folder').mkdir()
  (tmp_path / 'folder' / 'part-1.csv').touch()
  assert experiments.find(rows) == experiments.Source(
    ('gin/dss_custom.gin',), {'DATA': repr(rows)}, 'tiny'
  )


def test_a_glob_here_holds_everywhere(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'part-1.csv').touch()
  assert experiments.absolute('part-*.csv') == str(tmp_path / 'part-*.csv')
  assert experiments.absolute('other-*.csv') == 'other-*.csv'


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
