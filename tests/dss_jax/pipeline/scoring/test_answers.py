"""A student that writes the label exactly is right, and no other is."""

import json

import pytest
import seqio
from hypothesis import example, given
from hypothesis import strategies as st

from dss_jax import errors, mixtures, own_data
from dss_jax.pipeline import preprocessors
from dss_jax.pipeline.scoring import answers, metrics, spelling
from tests import small_vocabularies

KINDS = {
  'sample': mixtures.sample_vocabulary,
  'few characters': small_vocabularies.made,
  'letters as they stand': lambda: small_vocabularies.made(
    normalization_rule_name='identity', remove_extra_whitespaces=False
  ),
  'small letters': lambda: small_vocabularies.made(
    normalization_rule_name='nmt_nfkc_cf', model_type='bpe'
  ),
  'bytes': seqio.ByteVocabulary,
}
PIECES = (
  'pond', 'Pond', ' ', '  ', '\n', '\t', '\u00a0', 'e\u0301', 'é', 'ﬁ', '²',
  '{', '<', '^', '</s>', '<pad>', '\x00', '\x1f', '\u200b', '⁇', '日本', '😀',
  '(a)',  preprocessors.ANSWER_PHRASE,
)  # fmt: skip
LABELS = (
  (st.text() | st.lists(st.sampled_from(PIECES), max_size=12).map(''.join))
  .map(str.strip)  # As rows are read.
  .filter(bool)
)


def example_of(vocabulary, label, single=False):
  """A task's example, as SeqIO makes it."""
  phrase = preprocessors.ANSWER_PHRASE
  target = f'It swims. {phrase} {label}' if single else label
  return {
    'targets': [*vocabulary.encode(target), vocabulary.eos_id],
    'targets_pretokenized': target.encode(),
  }


def both(vocabulary, compare, gold, said, single=False):
  """Gold label and answer of a student that writes `said` without mistakes."""
  example = example_of(vocabulary, gold, single)
  written = example_of(vocabulary, said, single)['targets']
  target = example['targets_pretokenized'].decode()
  return (
    compare(target, example=example, is_target=True),
    compare(vocabulary.decode(written), example=example, is_target=False),
  )


def compares(vocabulary, *labels, single=False):
  """Returns the postprocessor, None where it refuses the labels."""
  compare = answers.Answers(vocabulary, in_single_targets=single)
  try:
    compare.check(labels, None)
  except errors.DataError:
    return None
  return compare


@pytest.mark.parametrize('single', [False, True], ids=['label', 'single'])
@pytest.mark.parametrize('kind', KINDS)
@given(label=LABELS)
def test_a_perfect_student_scores_100(kind, single, label):
  vocabulary = KINDS[kind]()
  compare = compares(vocabulary, label, single=single)
  if compare is None:
    phrase = preprocessors.ANSWER_PHRASE
    in_label = phrase.lower() in spelling.spelled(vocabulary, label).lower()
    assert not spelling.spelled(vocabulary, label) or (single and in_label)
    return
  gold, said = both(vocabulary, compare, label, label, single)
  for metric in (
    metrics.for_labels(False, None, vocabulary),
    metrics.for_labels(True, None, vocabulary),
    metrics.for_labels(False, (label, 'another'), vocabulary),
  ):
    assert metric([gold], [said])['accuracy'] == 100.0


@pytest.mark.parametrize('kind', KINDS)
@given(gold=LABELS, other=LABELS)
@example(gold='⁇', other='0')
def test_another_label_is_never_right(kind, gold, other):
  vocabulary = KINDS[kind]()
  compare = compares(vocabulary, gold, other)
  pair = both(vocabulary, compare or answers.Answers(vocabulary), gold, other)
  right = metrics.label_accuracy(*zip(pair, strict=True))['accuracy'] == 100.0
  if compare is not None:
    assert right == (
      spelling.spelled(vocabulary, gold) == spelling.spelled(vocabulary, other)
    )
    if right:  # They differ in blanks or composed letters alone.
      assert not spelling.confused(vocabulary, [gold, other])


def test_several_answers_or_none_are_not_right_by_chance():
  vocabulary = small_vocabularies.made()
  example = example_of(vocabulary, 'pond', single=True)
  compare = answers.Answers(vocabulary, in_single_targets=True)
  phrase = preprocessors.ANSWER_PHRASE
  for text, expected in (
    (f'{phrase} cave. {phrase} pond', 'pond'),
    (f'{phrase} pond. {phrase} cave', 'cave'),
    (f'{phrase} pond or cave', 'pond or cave'),
    ('pond', ''),
    ('', ''),
  ):
    assert compare(text, example=example, is_target=False) == expected
  cut = {**example, 'targets': [*example['targets'][:2], vocabulary.eos_id]}
  # A target that is cut before its answer has none to write.
  assert compare('', example=cut, is_target=False) == ''
  gold = example['targets_pretokenized'].decode()
  assert compare(gold, example=cut, is_target=True) == 'pond'


def test_a_prediction_is_what_is_not_called_a_target():
  vocabulary = small_vocabularies.made()
  example = example_of(vocabulary, 'the {pond}')
  compare = answers.Answers(vocabulary)
  spelled = spelling.spelled(vocabulary, 'the {pond}')
  assert compare(f' {spelled} ', example) == 'the {pond}'
  assert compare(f' {spelled} ', example, is_target=True) == spelled
  # Without the tokens of a target, nothing says what is meant.
  assert compare(f' {spelled} ') == spelled
  assert compare(spelled, {'id': b'row'}) == spelled
  untold = {'targets': example['targets']}
  assert compare(spelled, untold) == spelled
  untold['targets_pretokenized'] = ' the  {pond}'
  assert compare(spelled, untold) == 'the  {pond}'
  rationales = answers.Rationales(vocabulary)
  assert rationales(' since  it\n', example) == 'since  it'
  assert rationales('the {pond}', example, is_target=True) == spelled
  assert rationales(' the {pond} ', is_target=True) == 'the {pond}'


def test_labels_that_a_student_cannot_tell_apart_are_named():
  vocabulary = small_vocabularies.made()
  with pytest.raises(errors.DataError, match=r"'<b>' and '\{b\}' are both"):
    answers.Answers(vocabulary).check(['{b}', 'pond', '<b>'], None)
  with pytest.raises(errors.DataError, match=r"'x²' and 'x2' are both 'x ⁇'"):
    answers.Answers(vocabulary, ('x2', 'x²')).check([], None)
  with pytest.raises(errors.DataError, match=r"'\\u200b' is empty"):
    answers.Answers(vocabulary).check(['\u200b'], None)
  # The vocabulary has ? but no 0, which is then written as the other label.
  with pytest.raises(errors.DataError, match=r"'0' and '⁇' are both '⁇'"):
    answers.Answers(vocabulary).check(['⁇', '0'], None)
  # The same label in other spellings is no other label.
  answers.Answers(vocabulary).check(['a  b', 'a b', 'a\u00a0b', 'a\nb'], None)
  answers.Answers(vocabulary).check(['caf\u00e9', 'cafe\u0301'], None)


def test_labels_that_are_cut_to_the_same_are_named():
  vocabulary = small_vocabularies.made()
  labels = ['the pond over there', 'the pond over here']
  compare = answers.Answers(vocabulary)
  compare.check(labels, None)
  with pytest.raises(errors.DataError, match='cut targets to more than 4 tok'):
    compare.check(labels, 4)
  with pytest.raises(errors.DataError, match=r'CLASSES: .* are cut to 4'):
    answers.Answers(vocabulary, labels).check([], 4)
  # The answer in a single target is not cut where the target is.
  answers.Answers(vocabulary, labels, in_single_targets=True).check(labels, 4)


def test_a_label_with_the_answer_phrase_in_it_has_no_single_target():
  label = f'x {preprocessors.ANSWER_PHRASE} y'
  compare = answers.Answers(mixtures.sample_vocabulary(), (), True)
  with pytest.raises(errors.DataError, match='expected one without'):
    compare.check([label], None)


def scores(task, rows):
  """Metrics of a student that writes the tokens that it was taught."""
  vocabulary = task.output_features['targets'].vocabulary
  golds = [
    task.postprocess_fn(
      row['targets_pretokenized'].decode(), example=row, is_target=True
    )
    for row in rows
  ]
  said = [
    task.postprocess_fn(
      vocabulary.decode([int(token) for token in row['targets']]),
      example=row,
      is_target=False,
    )
    for row in rows
  ]
  return task.metric_fns[0](golds, said)


def own_task(tmp_path, labels, vocabulary, method='dss', **options):
  """The tasks of own rows, 80 for each label."""
  path = tmp_path / 'rows.jsonl'
  with path.open('w') as file:
    for i in range(80 * len(labels)):
      label = labels[i % len(labels)]
      row = {'input': f'{i}', 'label': label, 'rationale': 'two  blanks { here'}
      file.write(json.dumps(row) + '\n')
  experiment = mixtures.Experiment(
    'custom',
    own_data.OwnData(str(path), **options),
    method=method,
    vocabulary=vocabulary,
  )
  tasks = seqio.get_mixture_or_task(mixtures.eval_mixture(experiment)).tasks
  return {task.name.split('_')[3]: task for task in tasks}


def rows_of(task):
  return list(task.get_dataset(None, 'eval', shuffle=False).as_numpy_iterator())


SPELLINGS = ['the  pond', 'a\ncave', 'the\u00a0barn', 'cafe\u0301', '{x', '½']


@pytest.mark.parametrize('method', ['dss', 'single_task'])
def test_a_perfect_student_of_own_rows_scores_100(tmp_path, tfds_dir, method):
  vocabulary = small_vocabularies.made()
  tasks = own_task(tmp_path, SPELLINGS, vocabulary, method)
  task = tasks['single' if method == 'single_task' else 'label']
  found = scores(task, rows_of(task))
  assert found['accuracy'] == found['macro_f1'] == 100.0
  # By class under the names that the user wrote.
  for label in SPELLINGS:
    assert found[f'recall_of_{label}'] == 100.0
    assert found[f'confusion_{label}_as_{label}'] > 0
  if method == 'dss':
    found = scores(tasks['rationale'], rows_of(tasks['rationale']))
    assert found == pytest.approx({'bleu': 100.0, 'rouge_l': 100.0})


def test_a_perfect_student_of_equations_scores_100(tmp_path, tfds_dir):
  vocabulary = small_vocabularies.made()
  # The vocabulary lacks the first's sign.
  task = own_task(tmp_path, ['3 * 4', '( 3  + 9 )'], vocabulary, by_value=True)[
    'label'
  ]
  assert vocabulary.unk_id in vocabulary.encode('3 * 4')
  assert scores(task, rows_of(task))['accuracy'] == 100.0


def test_classes_that_become_one_are_refused_before_the_first_row(
  tmp_path, tfds_dir
):
  task = own_task(
    tmp_path, ['{', '<'], small_vocabularies.made(), classes=('{', '<')
  )['label']
  with pytest.raises(errors.DataError, match=r"'<' and '\{' are both"):
    task.get_dataset(None, 'eval')
