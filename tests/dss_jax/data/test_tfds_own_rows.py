"""Tests of TFDS data sets by name, and of those of own rows."""

import hashlib
import io
import itertools
import json
import types

import pytest

from dss_jax.data import own_rows, progress, records, tfds_builders


@pytest.fixture
def own(tmp_path):
  """Twelve rows with three kinds of rationales, the last of which has none."""
  path = tmp_path / 'rows.jsonl'
  lines = [
    {'input': f'case {n}', 'label': f'{n}',
     'rationale': {kind: f'{kind}{n}' for kind in 'abc'} if n < 11 else ''}
    for n in range(12)
  ]  # fmt: skip
  path.write_text('\n'.join(map(json.dumps, lines)))
  return own_rows.OwnData(str(path), kinds=('a', 'b', 'c'))


def _prepared(own):
  config = tfds_builders.find_config('custom', own, None)
  return tfds_builders.prepared('custom', config)


def test_own_rows_are_stored_with_all_their_kinds(own, tfds_dir, capfd):
  builder = _prepared(own)
  release = own_rows.read(own)
  for split, rows in release.splits.items():
    table = tfds_builders.table(builder, split)
    names = ['id', 'input', 'label', 'rationale', 'teacher_label']
    assert [*table] == [*names, 'rationale2', 'rationale3']
    for name, values in table.items():
      assert [v.decode() for v in values] == [row.column(name) for row in rows]
  assert tfds_builders.reports(builder) == release.reports
  name = f'local_{own_rows.fingerprint(own)}_gold'
  assert builder.builder_config.name == name
  assert f'Preparing dss_custom/{name}, once' in capfd.readouterr().err
  tfds_builders._PREPARED.clear()
  assert _prepared(own) is not builder
  assert capfd.readouterr().err == ''


def test_how_far_it_is_is_said_while_tfds_is_silent(
  own, tfds_dir, monkeypatch, capfd
):
  """Else who prepares a million rows waits without a word."""
  clock = itertools.count(step=600)
  fake = types.SimpleNamespace(monotonic=lambda: next(clock))
  monkeypatch.setattr(progress, 'time', fake)
  monkeypatch.setattr(progress, '_ROWS', 1)
  _prepared(own)
  said = capfd.readouterr().err
  assert f'Reading {own.train}: 12 rows, done' in said
  assert 'Writing train: 5 rows, 50% …' in said
  assert 'Writing train: 8 rows, done' in said
  assert 'Writing test: 2 rows, done' in said


def test_a_data_set_has_a_config_for_each_teacher():
  """Else rows without a teacher are read with one, or another one's."""
  teachers = {
    'cqa': ('palm', 'gpt_neox', None), 'svamp': ('palm', 'gpt_neox', None),
    'asdiv': ('palm', None), 'esnli': ('palm', 'gpt_neox', None),
    'anli1': ('palm', 'gpt_neox', None), 'custom': (),
  }  # fmt: skip
  assert tuple(teachers) == tfds_builders.DATA_SETS
  for data_set, known in teachers.items():
    configs = tfds_builders.BUILDERS[data_set].BUILDER_CONFIGS
    pairs = [(data, who) for data in ('sample', 'release') for who in known]
    assert [(c.data, c.teacher) for c in configs] == pairs
    for config in configs:
      assert config.name == f'{config.data}_{config.teacher or "gold"}'
      assert config is tfds_builders.find_config(
        data_set, config.data, config.teacher
      )
  other = tfds_builders.find_config('cqa', 'sample', 'mine')
  assert (other.name, other.data, other.teacher) == (
    'sample_mine', 'sample', 'mine'
  )  # fmt: skip


def test_data_of_several_teachers_has_a_name_of_all(write_release):
  folder = str(write_release())
  found = [tfds_builders.content('cqa', folder, t) for t in ('palm', None)]
  both = hashlib.sha256(' '.join(found).encode()).hexdigest()[:10]
  tag = tfds_builders.data_tag('cqa', folder, 'palm', None)
  assert tag == f'local_{both}'
  tag = tfds_builders.data_tag('cqa', folder, None)
  assert tag == f'local_{found[1]}'
  for data in ('sample', 'release'):
    assert tfds_builders.data_tag('cqa', data, 'palm', None) == data


def test_a_folder_of_any_name_is_no_sample(write_release, monkeypatch):
  folder = write_release(train=5)
  monkeypatch.chdir(folder.parent)
  for name in ('shelf', 'cupboard'):
    folder = folder.rename(folder.with_name(name))
    found = tfds_builders.content('cqa', name, 'palm')
    assert found == records.fingerprint('cqa', name)
    assert found != tfds_builders.content('cqa', 'sample', 'palm')


def test_labels_are_equations_where_the_data_set_or_its_owner_says_so(own):
  found = {
    name: tfds_builders.by_value(name, 'sample')
    for name in tfds_builders.DATA_SETS
  }
  assert {name for name, by_value in found.items() if by_value} == {
    'asdiv', 'svamp'
  }  # fmt: skip
  assert not tfds_builders.by_value('svamp', own)
  equations = own_rows.OwnData(own.train, by_value=True)
  assert tfds_builders.by_value('custom', equations)


def test_rows_are_written_whoever_is_told(own, tfds_dir):
  config = tfds_builders.find_config('custom', own, None)
  builder = tfds_builders.DssCustom(config=config, data_dir=str(tfds_dir))
  builder.told_to = io.StringIO()
  rows = own_rows.read(own).splits['train']
  assert [key for key, _ in builder._rows('train', rows)] == [*range(8)]
  assert builder.told_to.getvalue() == ''
