"""Tests of the SeqIO sources."""

import itertools
import pathlib

import numpy as np
import pytest
import seqio

from dss_jax import errors
from dss_jax.data import records, tfds_builders
from dss_jax.data import splits as splits_lib
from dss_jax.pipeline import sources


@pytest.fixture
def make_source(write_release, tfds_dir):
  """Returns a function that makes a source of a tiny release."""
  folder = write_release(train=50, test=7, part=100)

  def make(teacher='palm', splits=None, **draw):
    config = tfds_builders.find_config('cqa', str(folder), teacher)
    return sources.DssSource('cqa', config, sources.Draw(**draw), splits)

  make.rows = records.read('cqa', str(folder)).splits
  return make


def ids(source, split, **kwargs):
  dataset = source.get_dataset(split, **kwargs)
  return [row['id'].decode() for row in dataset.as_numpy_iterator()]


def test_unshuffled_rows_come_in_the_order_of_the_splits(make_source):
  source = make_source()
  train, validation = splits_lib.train_validation(50)
  assert ids(source, 'train', shuffle=False) == [f'row{i}' for i in train]
  assert ids(source, 'validation', shuffle=False) == [
    f'row{i}' for i in validation
  ]
  assert ids(source, 'test', shuffle=False) == [
    f'row{100 + i}' for i in range(7)
  ]


def test_a_row_keeps_its_columns_together(make_source):
  source = make_source()
  by_id = {row.id: row for row in make_source.rows['train']}
  for example in source.get_dataset('train', seed=3).as_numpy_iterator():
    row = by_id[example['id'].decode()]
    for name in tfds_builders.COLUMNS:
      assert example[name].decode() == getattr(row, name)


def test_a_fraction_takes_its_rows_in_its_order(make_source):
  source = make_source(fraction=0.4, seed=5)
  train, validation = splits_lib.train_validation(50, fraction=0.4, seed=5)
  assert ids(source, 'train', shuffle=False) == [f'row{i}' for i in train]
  assert source.num_input_examples('train') == len(train) == 18
  assert source.num_input_examples('validation') == len(validation) == 2
  assert source.num_input_examples('test') == 7


def test_rows_with_a_blank_are_left_out_and_the_count_is_exact(make_source):
  source = make_source(needs=('rationale',))
  given = {row.id for row in make_source.rows['train'] if row.rationale}
  for split in ('train', 'validation'):
    found = ids(source, split)
    assert len(found) == source.num_input_examples(split)
    assert set(found) <= given
  assert source.num_drawn('train') + source.num_drawn('validation') == 50
  total = sum(source.num_input_examples(s) for s in ('train', 'validation'))
  assert total == len(given) < 50


def test_shuffling_is_seeded_and_new_in_every_epoch(make_source):
  source = make_source()
  first = ids(source, 'train', seed=1)
  assert first == ids(source, 'train', seed=1)
  assert first != ids(source, 'train', seed=2)
  assert sorted(first) == sorted(ids(source, 'train', shuffle=False))
  twice = source.get_dataset('train', seed=1).repeat(2)
  both = [row['id'].decode() for row in twice.as_numpy_iterator()]
  assert both[:45] == first
  assert both[45:] != first


@pytest.mark.parametrize(
  ('shards', 'fraction', 'shuffle'),
  # The last has fewer rows than shards.
  [
    (1, 1.0, False),
    (2, 1.0, False),
    (3, 1.0, False),
    (3, 1.0, True),
    (8, 0.1, True),
  ],
)
def test_over_all_shards_each_row_comes_once(
  make_source, shards, fraction, shuffle
):
  source = make_source(needs=('rationale',), fraction=fraction)
  parts = [
    ids(
      source, 'train', shuffle=shuffle, seed=4,
      shard_info=seqio.ShardInfo(index=i, num_shards=shards),
    )
    for i in range(shards)
  ]  # fmt: skip
  together = sorted(itertools.chain(*parts))
  assert together == sorted(ids(source, 'train', shuffle=False))
  assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_swapped_rationales_are_others_and_everything_else_stays(make_source):
  plain = make_source().columns('train')
  swapped = make_source(swap_rationales=True, seed=2).columns('train')
  again = make_source(swap_rationales=True, seed=2).columns('train')
  other = make_source(swap_rationales=True, seed=3).columns('train')
  for name in ('id', 'input', 'label', 'teacher_label'):
    np.testing.assert_array_equal(swapped[name], plain[name])
  given = plain['rationale'] != b''
  assert not np.any(swapped['rationale'][given] == plain['rationale'][given])
  assert sorted(swapped['rationale']) == sorted(plain['rationale'])
  np.testing.assert_array_equal(swapped['rationale'], again['rationale'])
  assert np.any(swapped['rationale'] != other['rationale'])


def test_rationales_of_wrong_answers_are_blanked_and_nothing_else(make_source):
  plain = make_source().columns('train')
  checked = make_source(only_correct=True).columns('train')
  right = plain['teacher_label'] == plain['label']
  assert 0 < right.sum() < len(right)
  blanked = np.where(right, plain['rationale'], b'')
  np.testing.assert_array_equal(checked['rationale'], blanked)
  assert (plain['rationale'][~right] != b'').any()
  for name in ('id', 'input', 'label', 'teacher_label'):
    np.testing.assert_array_equal(checked[name], plain[name])


def test_a_source_says_which_files_and_which_draw_its_rows_are(make_source):
  source = make_source()
  assert source.draw == sources.Draw(1.0, 0, (), False, False)
  assert source.supports_arbitrary_sharding
  files = source.list_shards('validation')
  # Rows of both are drawn from the train split.
  assert files == source.list_shards('train') != source.list_shards('test')
  assert files and all(pathlib.Path(name).is_file() for name in files)
  others = [make_source(fraction=0.5), make_source(needs=('rationale',)),
            make_source(splits={'eval': 'test'})]  # fmt: skip
  assert len({source.meaning, *(other.meaning for other in others)}) == 4
  assert make_source().meaning == source.meaning
  assert others[0].num_drawn('test') == 7


def test_no_row_to_train_on_is_an_error_that_says_what_is_blank(
  make_source, monkeypatch
):
  source = make_source(needs=('label', 'rationale'))
  table = sources.tfds_builders.table

  def blank(*args):
    columns = table(*args)
    return columns | {'rationale': np.full(len(columns['label']), b'', object)}

  monkeypatch.setattr(sources.tfds_builders, 'table', blank)
  with pytest.raises(
    errors.DataError, match='whose label and rationale is not'
  ):
    source.get_dataset('train')
  assert source.num_input_examples('train') == 0


def test_only_train_rationales_are_swapped(make_source):
  for split in ('validation', 'test'):
    np.testing.assert_array_equal(
      make_source(swap_rationales=True).columns(split)['rationale'],
      make_source().columns(split)['rationale'],
    )


def test_a_split_can_have_another_name(make_source):
  source = make_source(splits={'eval': 'test'})
  assert tuple(source.splits) == ('eval',)
  assert sorted(ids(source, 'eval')) == [f'row{100 + i}' for i in range(7)]
  assert source.num_input_examples('eval') == 7


def test_a_released_validation_split_is_used():
  sizes = {'train': 20, 'validation': 5, 'test': 3}
  assert sources.draw_rows(sizes, 'validation', 0.5, 1)[0] == 'validation'
  split, rows = sources.draw_rows(sizes, 'train', 1.0, 0)
  assert (split, rows.tolist()) == ('train', list(range(20)))


def test_making_a_source_touches_no_file(tfds_dir):
  config = tfds_builders.Config(name='local_0_palm', data='/no/such/place')
  source = sources.DssSource('cqa', config, sources.Draw())
  assert tuple(source.splits) == ('train', 'validation', 'test')
  assert not tfds_dir.exists()
