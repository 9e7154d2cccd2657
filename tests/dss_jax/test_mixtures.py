"""Tests of names, tasks and mixtures."""

import json
import math
import re

import numpy as np
import pytest
import seqio
import tensorflow as tf

from dss_jax import errors, mixtures
from dss_jax.data import own_rows, records, splits, tfds_builders

LENGTHS = {'inputs': 64, 'targets': 24}
VOCABULARY = seqio.ByteVocabulary()


@pytest.fixture
def folder(write_release, tfds_dir):
  """A tiny release, with a TFDS data dir of its own."""
  return str(write_release(train=40, test=5, part=100))


def examples(name, split='train', count=None, **kwargs):
  kwargs = {'shuffle': False, 'num_epochs': 1, **kwargs}
  dataset = seqio.get_mixture_or_task(name).get_dataset(
    split=split, **{'sequence_length': None, **kwargs}
  )
  if count:
    dataset = dataset.take(count)
  return list(dataset.as_numpy_iterator())


def text(tokens):
  return VOCABULARY.decode(tokens)


@pytest.mark.parametrize(
  ('options', 'train', 'evaluated'),
  [
    ({}, 'dss_cqa_sample_gold_palm', 'eval_dss_cqa_sample_palm'),
    ({'data': 'release', 'teacher': 'gpt_neox'},
     'dss_cqa_release_gold_gpt_neox', 'eval_dss_cqa_release_gpt_neox'),
    ({'labels': 'teacher'}, 'dss_cqa_sample_teacher_palm',
     'eval_dss_cqa_sample_palm'),
    ({'method': 'finetune'}, 'finetune_cqa_sample_gold',
     'eval_finetune_cqa_sample'),
    ({'method': 'finetune', 'labels': 'teacher'},
     'finetune_cqa_sample_teacher_palm', 'eval_finetune_cqa_sample'),
    ({'method': 'single_task'}, 'single_task_cqa_sample_gold_palm',
     'eval_single_task_cqa_sample_palm'),
    ({'fraction': 0.25, 'seed': 3, 'rationale_rate': 0.5},
     'dss_cqa_sample_gold_palm_r0.5_f0.25_s3',
     'eval_dss_cqa_sample_palm_f0.25_s3'),
    ({'fraction': 1e-5, 'seed': None}, 'dss_cqa_sample_gold_palm_f1em05',
     'eval_dss_cqa_sample_palm_f1em05'),
    ({'paired': True, 'rationale_rate': 0.5},
     'dss_cqa_sample_gold_palm_paired', 'eval_dss_cqa_sample_palm'),
    ({'shuffle_rationales': True, 'seed': 2},
     'dss_cqa_sample_gold_palm_shuffled_s2', 'eval_dss_cqa_sample_palm'),
    ({'which_rationales': 'correct_only', 'paired': True},
     'dss_cqa_sample_gold_palm_paired_correct', 'eval_dss_cqa_sample_palm'),
    ({'keep_blank': True, 'shuffle_rationales': True, 'fraction': 0.5},
     'dss_cqa_sample_gold_palm_blanks_shuffled_f0.5',
     'eval_dss_cqa_sample_palm_f0.5'),
    ({'method': 'finetune', 'which_rationales': 'correct_only'},
     'finetune_cqa_sample_gold', 'eval_finetune_cqa_sample'),
    ({'method': 'finetune', 'keep_blank': True, 'labels': 'teacher'},
     'finetune_cqa_sample_teacher_palm_blanks', 'eval_finetune_cqa_sample'),
    ({'method': 'finetune', 'keep_blank': True},
     'finetune_cqa_sample_gold', 'eval_finetune_cqa_sample'),
    # None of these has an effect.
    ({'method': 'finetune', 'rationale_rate': 0.5, 'teacher': 'mine',
      'paired': True, 'shuffle_rationales': True, 'seed': 4},
     'finetune_cqa_sample_gold', 'eval_finetune_cqa_sample'),
    ({'seed': 4}, 'dss_cqa_sample_gold_palm', 'eval_dss_cqa_sample_palm'),
  ],
)  # fmt: skip
def test_names_follow_the_rule(options, train, evaluated):
  experiment = mixtures.Experiment('cqa', **options)
  assert mixtures.train_name(experiment) == train
  assert mixtures.eval_name(experiment) == evaluated
  assert re.fullmatch(r'[A-Za-z0-9_.]+', train + evaluated)


def test_without_rationales_no_teacher_is_in_the_name():
  experiment = mixtures.Experiment('cqa')
  assert (
    mixtures.eval_name(experiment, rationales=False) == 'eval_dss_cqa_sample'
  )


def test_a_path_is_named_by_its_content(folder):
  name = mixtures.train_name(mixtures.Experiment('cqa', folder))
  digits = records.fingerprint('cqa', folder)
  assert name == f'dss_cqa_local_{digits}_gold_palm'


def test_only_another_vocabulary_is_in_the_name():
  name = mixtures.train_name(mixtures.Experiment('cqa'))
  same = mixtures.Experiment('cqa', vocabulary=mixtures.sample_vocabulary())
  assert mixtures.train_name(same) == name
  other = mixtures.Experiment('cqa', vocabulary=VOCABULARY)
  assert re.fullmatch(name + '_v[0-9a-f]{8}', mixtures.train_name(other))
  third = mixtures.Experiment('cqa', vocabulary=seqio.ByteVocabulary(9))
  assert mixtures.train_name(other) != mixtures.train_name(third)


def test_dss_mixes_the_label_task_and_the_rationale_task(folder):
  name = mixtures.train_mixture(
    data_set='cqa', data=folder, vocabulary=VOCABULARY
  )
  mixture = seqio.get_mixture_or_task(name)
  label, rationale = sorted(mixture.tasks, key=lambda t: 'rationale' in t.name)
  train, _ = splits.train_validation(40)
  rows = records.read('cqa', folder).splits['train']
  found = examples(label.name)
  assert len(found) == label.num_input_examples('train') == 36
  for example, index in zip(found, train, strict=True):
    assert text(example['inputs']) == 'predict: ' + rows[index].input
    assert text(example['targets']) == rows[index].label
    assert example['targets'][-1] == VOCABULARY.eos_id
    assert example['task_id'] == 1
  given = [index for index in train if rows[index].rationale]
  found = examples(rationale.name)
  assert len(found) == rationale.num_input_examples('train') == len(given)
  for example, index in zip(found, given, strict=True):
    assert text(example['inputs']) == 'explain: ' + rows[index].input
    assert text(example['targets']) == rows[index].rationale
    assert example['task_id'] == 2


@pytest.mark.parametrize('rate', [0.25, 1.0])
def test_tasks_come_at_about_the_asked_rate(folder, rate):
  name = mixtures.train_mixture(
    data_set='cqa', data=folder, rationale_rate=rate, vocabulary=VOCABULARY
  )
  found = examples(
    name, count=800, shuffle=True, seed=0, num_epochs=None,
    sequence_length=LENGTHS,
  )  # fmt: skip
  part = np.mean([example['task_id'] == 2 for example in found])
  expected = rate / (1 + rate)
  # Five standard deviations.
  assert abs(part - expected) < 5 * math.sqrt(expected / 800)
  assert max(len(example['inputs']) for example in found) <= 64
  assert {'inputs', 'targets', 'task_id'} == set(found[0])
  assert found[0]['task_id'].dtype == np.int32


def test_a_rate_of_zero_leaves_the_label_task_alone(folder):
  name = mixtures.train_mixture(data_set='cqa', data=folder, rationale_rate=0)
  tasks = seqio.get_mixture_or_task(name).tasks
  assert [task.name.split('_')[-2:] for task in tasks] == [['label', 'gold']]


def test_teacher_labels_are_trained_on_and_blank_ones_left_out(folder):
  name = mixtures.train_mixture(
    data_set='cqa',
    data=folder,
    method='finetune',
    labels='teacher',
    vocabulary=VOCABULARY,
  )
  (task,) = seqio.get_mixture_or_task(name).tasks
  rows = records.read('cqa', folder).splits['train']
  train, _ = splits.train_validation(40)
  said = [rows[i] for i in train if rows[i].teacher_label]
  found = examples(task.name)
  assert len(found) == len(said) < 36
  assert [text(x['targets']) for x in found] == [r.teacher_label for r in said]
  assert [text(x['inputs']) for x in found] == [row.input for row in said]
  assert any(row.teacher_label != row.label for row in said)


@pytest.mark.parametrize('method', ['finetune', 'dss'])
def test_blank_labels_of_the_teacher_stay_as_published(folder, method):
  name = mixtures.train_mixture(
    data_set='cqa',
    data=folder,
    method=method,
    labels='teacher',
    paired=True,
    keep_blank=True,
    vocabulary=VOCABULARY,
  )
  rows = records.read('cqa', folder).splits['train']
  train, _ = splits.train_validation(40)
  found = examples(name)
  blank = [*VOCABULARY.encode(' '), VOCABULARY.eos_id]
  blanks = 0
  for example, index in zip(found, train, strict=True):
    row = rows[index]
    pairs = [('targets', row.teacher_label)]
    if method == 'dss':
      pairs.append(('rationale_targets', row.rationale))
    for feature, said in pairs:
      if said:
        assert text(example[feature]) == said
      else:
        assert example[feature].tolist() == blank
        blanks += 1
  assert blanks >= len(pairs)


def test_evaluation_is_against_gold_labels(folder):
  name = mixtures.eval_mixture(
    data_set='cqa', data=folder, labels='teacher', vocabulary=VOCABULARY
  )
  (task,) = [
    task
    for task in seqio.get_mixture_or_task(name).tasks
    if task.name.endswith('label_test' + name[-10:])
  ]
  rows = records.read('cqa', folder).splits['test']
  found = examples(task.name, 'eval')
  assert [text(x['targets']) for x in found] == [row.label for row in rows]


def test_a_pair_has_both_tasks_in_one_example(folder):
  name = mixtures.train_mixture(
    data_set='cqa', data=folder, paired=True, vocabulary=VOCABULARY
  )
  rows = records.read('cqa', folder).splits['train']
  train, _ = splits.train_validation(40)
  found = examples(name)
  assert len(found) == 36
  for example, index in zip(found, train, strict=True):
    row = rows[index]
    assert text(example['inputs']) == 'predict: ' + row.input
    assert text(example['targets']) == row.label
    assert text(example['rationale_targets']) == row.rationale
    assert bool(len(example['rationale_inputs'])) == bool(row.rationale)


def test_a_single_target_has_rationale_and_label(folder):
  name = mixtures.train_mixture(
    data_set='cqa', data=folder, method='single_task', vocabulary=VOCABULARY
  )
  first = examples(name)[0]
  train, _ = splits.train_validation(40)
  row = records.read('cqa', folder).splits['train'][train[0]]
  expected = f'{row.rationale} So the answer is {row.label}'
  assert text(first['targets']) == expected.strip()
  assert text(first['inputs']) == row.input


def test_shuffled_rationales_are_a_control_of_the_same_size(folder):
  both = [
    mixtures.train_mixture(
      data_set='cqa',
      data=folder,
      shuffle_rationales=shuffled,
      vocabulary=VOCABULARY,
    )
    for shuffled in (False, True)
  ]
  plain, shuffled = (
    [
      {text(x['inputs']): text(x['targets']) for x in examples(task.name)}
      for task in sorted(
        seqio.get_mixture_or_task(name).tasks,
        key=lambda task: 'rationale' in task.name,
      )
    ]
    for name in both
  )
  assert plain[0] == shuffled[0]
  assert sorted(plain[1].values()) == sorted(shuffled[1].values())
  assert all(plain[1][key] != shuffled[1][key] for key in plain[1])


def test_registering_again_changes_nothing(folder):
  experiment = mixtures.Experiment('cqa', folder)
  mixtures.register(experiment)
  before = seqio.get_mixture_or_task(mixtures.train_name(experiment))
  mixtures.train_mixture(data_set='cqa', data=folder, seed=9)
  assert seqio.get_mixture_or_task(mixtures.train_name(experiment)) is before


def test_a_name_that_would_mean_two_things_is_refused():
  # Its rationales are called what the other's test split is called.
  mixtures.register(mixtures.Experiment('cqa', 'release', teacher='clash'))
  with pytest.raises(
    errors.DataError, match=r"'cqa_release_rationale_clash_test' is taken"
  ):
    mixtures.register(
      mixtures.Experiment('cqa', 'release', teacher='clash_test')
    )


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'data_set': 'cqaa'}, "data set is 'cqaa': .* Did you mean 'cqa'?"),
    ({'method': 'finetun'}, "METHOD is 'finetun'.* Did you mean 'finetune'?"),
    ({'labels': 'Gold'}, "LABELS is 'Gold'.* Did you mean 'gold'?"),
    ({'data': 'sampel'}, "DATA 'sampel': .*nothing there. Did you mean 'sam"),
    ({'data': ''}, "DATA is '': expected 'sample', 'release', or the path"),
    ({'data': None}, 'DATA is None'),
    ({'teacher': 'a/b'}, "TEACHER is 'a/b': expected 'palm'"),
    ({'teacher': 'gpt_neox'}, "outputs of the teacher 'gpt_neox' there"),
    ({'which_rationales': 'correct'},
     "RATIONALES is 'correct': .* Did you mean 'correct_only'?"),
    ({'keep_blank': 1}, 'KEEP_BLANK is 1: expected True or False'),
    ({'data_set': 'asdiv', 'data': 'release'}, 'all that the published'),
    ({'keep_blank': True, 'which_rationales': 'correct_only'},
     'expected one of them alone'),
    ({'data_set': 'custom'}, "DATA is 'sample': expected the path of a file"),
    ({'data': own_rows.OwnData('x.jsonl')}, "expected 'custom' with them"),
    ({'fraction': 0}, 'FRACTION is 0, but'),
    ({'rationale_rate': -1}, 'RATIONALE_RATE is -1: expected a number from 0'),
    ({'rationale_rate': float('nan')}, 'RATIONALE_RATE is nan'),
    ({'seed': -1}, 'RANDOM_SEED is -1: expected a whole number'),
    ({'seed': 0.5}, r'RANDOM_SEED is 0\.5'),
    ({'paired': 'no'}, "PAIRED is 'no': expected True or False"),
  ],
)  # fmt: skip
@pytest.mark.parametrize(
  'function', [mixtures.train_mixture, mixtures.eval_mixture]
)
def test_a_mistake_is_explained_when_the_mixture_is_asked_for(
  function, options, message
):
  with pytest.raises(errors.DataError, match=message):
    function(**{'data_set': 'cqa', **options})


def test_a_path_without_the_files_is_explained(tmp_path):
  with pytest.raises(
    errors.DataError, match=r"expected the data set 'cqa' .* found nothing\."
  ):
    mixtures.train_mixture(data_set='cqa', data=str(tmp_path))


def predict_with(answers):
  """Returns a predict_fn that answers from a dict by input."""

  def predict(dataset):
    result = []
    for index, example in dataset.as_numpy_iterator():
      asked = text(example['encoder_input_tokens'])
      tokens = [*VOCABULARY.encode(answers(asked)), VOCABULARY.eos_id]
      result.append((index, tokens + [0] * (64 - len(tokens))))
    return result

  return predict


def evaluate(name, *answers, log_dir=None):
  """What SeqIO makes of each of the answers, at step 3 and those behind it."""
  evaluator = seqio.Evaluator(
    name,
    seqio.EncDecFeatureConverter(pack=False),
    eval_split=mixtures.EVAL_SPLIT,
    sequence_length={'inputs': 128, 'targets': 64},
    logger_cls=[seqio.JSONLogger] if log_dir else [],
    log_dir=log_dir,
  )
  results = []
  for step, given in enumerate(answers, start=3):
    metrics, _ = evaluator.evaluate(
      compute_metrics=True, step=step, predict_fn=predict_with(given)
    )
    results.append(
      {
        next(kind for kind in ('label', 'rationale', 'single') if kind in task)
        + ('_test' if '_test' in task else '_validation'): values
        for task, values in metrics.result().items()
      }
    )
  evaluator.close()
  return results


def test_seqio_evaluates_labels_and_rationales(folder, tmp_path):
  name = mixtures.eval_mixture(
    data_set='cqa', data=folder, vocabulary=VOCABULARY
  )
  rows = [
    row
    for split in records.read('cqa', folder).splits.values()
    for row in split
  ]
  labels = {'predict: ' + row.input: row.label for row in rows}
  said = {'explain: ' + row.input: row.rationale for row in rows}
  answers = {**labels, **said}.__getitem__
  (tmp_path / 'log').mkdir()
  result, wrong = evaluate(
    name, answers, lambda asked: 'pond', log_dir=str(tmp_path / 'log')
  )
  assert set(result) == {
    'label_test', 'label_validation', 'rationale_test', 'rationale_validation'
  }  # fmt: skip
  found = result['label_test']
  assert found['accuracy'] == found['accuracy_high'] == 100.0
  assert found['accuracy_low'] == pytest.approx(56.5518, abs=1e-4)
  assert result['rationale_test']['rouge_l'] == pytest.approx(100.0)
  assert wrong['label_test']['accuracy'] == 20.0
  assert wrong['rationale_test']['rouge_l'] < 50.0
  (path,) = (tmp_path / 'log').glob('*label_test*-000003.jsonl')
  first = json.loads(path.read_text().splitlines()[0])
  assert first['prediction'] == first['target'] == 'pond'
  assert first['input']['inputs_pretokenized'].startswith('predict: Where')
  assert first['input']['id'] == 'row100'


def test_the_label_of_a_single_target_is_evaluated(folder):
  name = mixtures.eval_mixture(
    data_set='cqa', data=folder, method='single_task', vocabulary=VOCABULARY
  )
  result, without = evaluate(
    name,
    lambda asked: 'Who knows. So the answer is pond',
    lambda asked: 'pond',
  )
  assert result['single_test']['accuracy'] == 20.0
  assert without['single_test']['accuracy'] == 0.0


def test_equations_are_evaluated_by_value(write_release, tfds_dir):
  folder = str(write_release('svamp', train=20, test=5))
  name = mixtures.eval_mixture(
    data_set='svamp', data=folder, method='finetune', vocabulary=VOCABULARY
  )
  mixture = seqio.get_mixture_or_task(name)
  test = next(task for task in mixture.tasks if '_test' in task.name)
  metric = test.metric_fns[0]
  result = metric(['( 1.0 + 2.0 )', '( 9.0 - 2.0 )'], ['3', '(9 + 2)'])
  assert result['accuracy'] == 50.0
  assert len(examples(test.name, 'eval')) == 5


def test_seqio_makes_batches_with_its_own_converter(tfds_dir):
  name = mixtures.train_mixture(data_set='cqa')
  dataset = seqio.get_dataset(
    name, LENGTHS, seqio.EncDecFeatureConverter(pack=True), batch_size=4
  )
  batch = next(dataset.as_numpy_iterator())
  assert batch['encoder_input_tokens'].shape == (4, 64)
  assert batch['decoder_target_tokens'].shape == (4, 24)
  # The sample's vocabulary knows the sample's words.
  vocabulary = seqio.get_mixture_or_task(name).output_features['inputs']
  assert vocabulary.vocabulary.unk_id not in batch['encoder_input_tokens']


def test_shards_of_a_mixture_hold_each_example_once(folder):
  name = mixtures.train_mixture(
    data_set='cqa', data=folder, vocabulary=VOCABULARY
  )
  for task in seqio.get_mixture_or_task(name).tasks:
    parts = [
      examples(task.name, shard_info=seqio.ShardInfo(i, 2)) for i in (0, 1)
    ]
    inputs = [text(x['inputs']) for part in parts for x in part]
    assert sorted(inputs) == sorted(
      text(x['inputs']) for x in examples(task.name)
    )


def test_an_epoch_parses_no_file_again(folder, monkeypatch):
  name = mixtures.train_mixture(
    data_set='cqa', data=folder, vocabulary=VOCABULARY
  )
  first = examples(name)
  for function in ('read', 'fingerprint'):
    monkeypatch.setattr(
      records, function, lambda *args: pytest.fail('The files were read again')
    )
  again = examples(
    mixtures.train_mixture(data_set='cqa', data=folder, vocabulary=VOCABULARY)
  )
  tf.nest.map_structure(np.testing.assert_array_equal, first, again)


def test_a_description_counts_what_is_left_out(folder):
  experiment = mixtures.Experiment('cqa', folder, labels='teacher')
  description = mixtures.describe(experiment)
  assert description.rows == {'train': 36, 'validation': 4, 'test': 5}
  rows = records.read('cqa', folder).splits['train']
  train, validation = splits.train_validation(40)
  blank = {
    'train': sum(not rows[i].rationale for i in train),
    'validation': sum(not rows[i].rationale for i in validation),
    'test': 1,
  }
  assert [*description.left_out.values()] == [blank, blank]
  assert description.reports['train'].teacher_accuracy == pytest.approx(
    sum(row.teacher_label == row.label for row in rows) / 40
  )


def test_the_sample_without_options_is_what_names_say(tfds_dir):
  description = mixtures.describe(mixtures.Experiment('cqa'))
  assert description.rows == {'train': 900, 'validation': 100, 'test': 400}
  assert set(description.left_out) == {
    'cqa_sample_label_gold', 'cqa_sample_rationale_palm'
  }  # fmt: skip
  assert set(description.left_out['cqa_sample_label_gold'].values()) == {0}
  report = records.read('cqa', tfds_builders.sample_location()).reports['train']
  assert description.reports['train'] == report
