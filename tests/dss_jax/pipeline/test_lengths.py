"""Tests of what a run's lengths cut off its examples."""

import seqio

from dss_jax import mixtures
from dss_jax.data import own_rows
from dss_jax.pipeline import lengths, registration
from tests.dss_jax import conftest as rows_lib

# Bytes and the end token: an input has 10 + len('predict: ') + 1 tokens.
ROWS = [
  {'input': f'{n:04} words', 'label': 'yes', 'rationale': rationale}
  for n, rationale in enumerate([['a' * 9, 'b' * 30], 'c' * 9, '', 'd' * 9])
]


def cuts(tmp_path, given, **options):
  """Returns the counts of the tasks that train on the rows."""
  path = tmp_path / 'rows.jsonl'
  rows_lib.write_json_lines(path, ROWS)
  for name in ('validation', 'test'):
    rows_lib.write_json_lines(tmp_path / f'{name}.jsonl', ROWS[-1:])
  own = own_rows.OwnData(
    str(path), str(tmp_path / 'validation.jsonl'), str(tmp_path / 'test.jsonl')
  )
  experiment = mixtures.Experiment(
    'custom', own, vocabulary=seqio.ByteVocabulary(), **options
  )
  mixtures.register(experiment)
  found = []
  for name, _ in registration.train_tasks(experiment):
    task = seqio.TaskRegistry.get(name)
    found.append(lengths.cut(task, task.source.columns('train'), given))
  return experiment, found


def test_cut_examples_are_counted_by_task(tmp_path, tfds_dir):
  given = {'inputs': 20, 'targets': 10}
  experiment, (label, rationale) = cuts(tmp_path, given)
  assert (label.examples, label.inputs, label.targets) == (4, 0, 0)
  assert label.longest == (20, 4)
  assert label.of == 4
  # The longest of the first row's is too long; the third row has none.
  assert (rationale.examples, rationale.inputs, rationale.targets) == (3, 0, 1)
  assert rationale.longest == (20, 31)
  shown = lengths.run_warning(experiment, given)
  assert '1 lose the end of the target' in shown and '_label_' not in shown
  assert f'\n  of 3 examples of {rationale.task}, 1 lose' in shown
  assert "{'inputs': 24, 'targets': 32}" in shown
  assert lengths.run_warning(experiment, {'inputs': 24, 'targets': 32}) == ''
  assert lengths.run_warning(experiment, None) == ''


def test_an_input_is_counted_with_its_prefix(tmp_path, tfds_dir):
  given = {'inputs': 19, 'targets': 40}
  _, (label, rationale) = cuts(tmp_path, given)
  assert (label.inputs, rationale.inputs) == (4, 3)
  _, (finetune,) = cuts(tmp_path, given, method='finetune')
  assert (finetune.inputs, finetune.longest) == (0, (11, 4))


def test_a_pair_is_counted_in_the_row_that_it_shares(tmp_path, tfds_dir):
  _, (pair,) = cuts(tmp_path, {'inputs': 40, 'targets': 13}, paired=True)
  # 4 + 10 target tokens are too many, 4 of a label alone are not.
  assert (pair.examples, pair.inputs, pair.targets) == (4, 0, 3)
  assert pair.longest == (40, 35)


def test_a_large_set_is_counted_by_a_part(tmp_path, tfds_dir, monkeypatch):
  monkeypatch.setattr(lengths, 'MOST', 2)
  given = {'inputs': 9, 'targets': 9}
  _, found = cuts(tmp_path, given)
  assert [(cut.examples, cut.of) for cut in found] == [(2, 4), (2, 3)]
  assert 'of 2 examples tried, of 4, of' in lengths.warning(found, given)


def test_the_longest_of_several_rationales_counts():
  for texts in (['bb', 'aaa', 'c'], ['aaa', 'bb'], ['aaa']):
    text = own_rows.SEPARATOR.join(texts)
    assert lengths.longest_rationale(text) == 'aaa'
    assert lengths.longest_rationale(text.encode()) == b'aaa'


def test_both_sides_of_all_tasks_are_told_with_what_keeps_them():
  found = [
    lengths.Cut('one', 9, 9, 1200, 3, (30, 20)),
    lengths.Cut('two', 9, 9, 0, 0, (41, 8)),
    lengths.Cut('three', 5, 9, 2, 0, (16, 8)),
  ]
  assert lengths.warning(found, {'inputs': 20, 'targets': 30}).splitlines() == [
    'Longer than 20 input or 30 target tokens, and cut at the end:',
    '  of 9 examples of one, 1,200 lose the end of the input and 3 lose the end'
    ' of the target',
    '  of 5 examples tried, of 9, of three, 2 lose the end of the input',
    "To keep all: --gin.TASK_FEATURE_LENGTHS=\"{'inputs': 48, 'targets': 30}\"",
  ]
  assert lengths.warning(found[1:2], {'inputs': 1, 'targets': 1}) == ''


def test_no_rows_lose_nothing_and_the_same_are_read_each_time(
  tmp_path, tfds_dir
):
  _, (label, rationale) = cuts(tmp_path, {'inputs': 40, 'targets': 40})
  tasks = [seqio.TaskRegistry.get(cut.task) for cut in (label, rationale)]
  empty = {name: [] for name in tasks[0].source.columns('train')}
  found = lengths.cut(tasks[0], empty, {'inputs': 9, 'targets': 9})
  assert found == lengths.Cut(label.task, 0, 0, 0, 0, (0, 0))
  several = own_rows.SEPARATOR.join(f'{n}' * 4 for n in range(9))
  rows = {name: [several] * 12 for name in empty}
  both = [
    [x['targets'].tolist() for x in lengths.tokenized(tasks[1], rows)]
    for _ in range(2)
  ]
  assert both[0] == both[1] and len({*map(tuple, both[0])}) > 2
  cut = {'inputs': 6, 'targets': 3}
  assert {
    (len(x['inputs']), len(x['targets']))
    for x in lengths.tokenized(tasks[1], rows, cut)
  } == {(6, 3)}
  assert (*lengths.of_task(tasks[1], rows).decoder.ravel(),) == (5,) * 12
