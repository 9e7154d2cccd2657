"""How a caller says which experiment it means, and what follows from it."""

import dataclasses

import pytest

from dss_jax import errors, mixtures
from dss_jax.data import own_rows, tfds_builders
from dss_jax.pipeline import experiment as experiment_lib

PUBLISHED = [name for name in tfds_builders.DATA_SETS if name != 'custom']
OWN = own_rows.OwnData('rows.jsonl')


def test_an_experiment_takes_no_options_beside_it():
  experiment = mixtures.Experiment('cqa', data='sample')
  with pytest.raises(
    errors.DataError,
    match=r'train_mixture\.seed: expected no option .*Experiment\.seed'
    r' \(macro RANDOM_SEED\)',
  ):
    mixtures.train_mixture(experiment, seed=3)


def test_what_is_no_experiment_is_refused_before_anything_is_read():
  given = experiment_lib.given
  experiment = mixtures.Experiment('cqa')
  assert given('here', experiment, {}) is experiment
  assert given('here', None, {'data_set': 'cqa'}) == experiment
  for value, options, message in (
    (None, {}, r'here: expected an experiment, found none'),
    (None, {'data_set': 'cqa', 'sed': 1},
     r'here\.sed: expected one of experiment, more, .* Did you mean .seed.'),
    (experiment, {'mor': 1}, r'here\.mor: .* Did you mean .more.'),
    ('cqa', {}, r"here: expected a mixtures.Experiment, found 'cqa'"),
    (experiment, {'data': 'x'}, r'Experiment.data \(macro DATA\) instead'),
    (experiment, {'which_rationales': 'all'}, r'\(macro RATIONALES\)'),
  ):  # fmt: skip
    with pytest.raises(errors.DataError, match=message):
      given('here', value, options, ['more'])


def test_an_experiment_is_a_key_and_stays_as_it_was_checked():
  one, other = (
    mixtures.Experiment('cqa', teachers=teachers)
    for teachers in (['palm', 'mine'], ('palm', 'mine'))
  )
  assert one == other and hash(one) == hash(other)
  with pytest.raises(dataclasses.FrozenInstanceError):
    one.method = 'finetune'
  # It is made for `--gin_file … --dry_run`, too.
  assert mixtures.Experiment.checked_by_dry_run


@pytest.mark.parametrize('data_set', PUBLISHED)
def test_published_sets_take_teachers_and_no_rows_of_ones_own(data_set):
  made = mixtures.Experiment(data_set, teachers=('palm', 'mine'))
  assert made.rows == made.place == 'sample'
  assert made.used_teachers == ('palm', 'mine')
  assert made.by_value == (data_set in ('svamp', 'asdiv'))
  classes = ['entailment', 'neutral', 'contradiction']
  nli = data_set in ('esnli', 'anli1')
  assert made.classes is None if not nli else (
    sorted(made.classes) == sorted(classes)
  )  # fmt: skip
  assert made.may_lack_labels == (data_set == 'asdiv')
  with pytest.raises(errors.DataError, match="expected 'custom' with them"):
    mixtures.Experiment(data_set, OWN)
  if data_set != 'asdiv':
    assert mixtures.Experiment(data_set, 'release').rows == 'release'


def test_rows_of_ones_own_have_their_kinds_and_options():
  own = dataclasses.replace(OWN, by_value=True, classes=('a', 'b'))
  made = mixtures.Experiment('custom', own, rationale_kinds=('code', 'text'))
  assert made.rows == dataclasses.replace(own, kinds=('code', 'text'))
  assert (made.place, made.by_value) == ('rows.jsonl', True)
  assert made.classes == ('a', 'b') and made.may_lack_labels
  plain = mixtures.Experiment('custom', 'rows.jsonl')
  assert plain.rows == OWN and plain.place == 'rows.jsonl'
  mapped = dataclasses.replace(OWN, columns={'rationale.code': 'x'})
  assert mixtures.Experiment(
    'custom', mapped, rationale_kinds=('code', 'text')
  ).rows.mapped_kinds
  for data in ('sample', 'release'):
    with pytest.raises(errors.DataError, match='expected the path of a file'):
      mixtures.Experiment('custom', data)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'rationale_rate': float('inf')}, 'RATIONALE_RATE is inf'),
    ({'rationale_rate': True}, 'RATIONALE_RATE is True'),
    ({'rationale_rate': '1'}, "RATIONALE_RATE is '1'"),
    ({'shuffle_rationales': 0}, 'SHUFFLE_RATIONALES is 0: expected True'),
    ({'seed': 'x'}, "RANDOM_SEED is 'x'"),
    ({'data': 3}, 'DATA is 3'),
    ({'teacher': 'gold'}, "TEACHER is 'gold'"),
    ({'teacher': '_a'}, "TEACHER is '_a'"),
    ({'teachers': ('palm', 'a/b')}, "TEACHERS is 'a/b'"),
    ({'rationale_kinds': ('a', 'b')}, 'expected a teacher for each kind'),
  ],
)  # fmt: skip
def test_values_that_an_option_cannot_have_are_refused(options, message):
  with pytest.raises(errors.DataError, match=message):
    mixtures.Experiment(**{'data_set': 'cqa', **options})


@pytest.mark.parametrize(
  ('options', 'needs', 'label_needs'),
  [
    ({}, ('label', 'rationale'), ()),
    ({'rationale_rate': 0}, ('label',), ()),
    ({'rationale_rate': 0.5}, ('label', 'rationale'), ()),
    ({'rationale_rate': 0, 'paired': True}, ('label', 'rationale'), ()),
    ({'rationale_rate': 0, 'method': 'single_task'},
     ('label', 'rationale'), ()),
    ({'method': 'finetune', 'labels': 'teacher'},
     ('teacher_label',), ('teacher_label',)),
    ({'method': 'finetune', 'which_rationales': 'correct_only'},
     ('label',), ()),
    ({'labels': 'teacher', 'keep_blank': True},
     ('teacher_label', 'rationale'), ()),
    ({'which_rationales': 'correct_only', 'teachers': ('palm', 'mine')},
     ('label', 'rationale', 'rationale2', 'label', 'teacher_label'), ()),
    ({'which_rationales': 'correct_only', 'rationale_rate': 0}, ('label',), ()),
    ({'data_set': 'asdiv', 'keep_blank': True}, ('label', 'rationale'),
     ('label',)),
  ],
)  # fmt: skip
def test_columns_that_a_method_needs(options, needs, label_needs):
  made = mixtures.Experiment(**{'data_set': 'cqa', **options})
  assert (made.needs, made.label_needs) == (needs, label_needs)


@pytest.mark.parametrize('method', mixtures.METHODS)
@pytest.mark.parametrize('labels', mixtures.LABELS)
def test_what_a_method_uses(method, labels):
  options = {'method': method, 'labels': labels, 'teacher': 'mine'}
  made = mixtures.Experiment(
    'cqa', paired=True, keep_blank=True, shuffle_rationales=True, **options
  )
  of_teacher, with_rationales = labels == 'teacher', method != 'finetune'
  assert made.uses_rationales == made.swaps_rationales == with_rationales
  assert made.uses_teacher == (with_rationales or of_teacher)
  assert made.used_teachers == (('mine',) if made.uses_teacher else ())
  assert made.used_teacher == ('mine' if made.uses_teacher else None)
  assert made.label_column == ('teacher_label' if of_teacher else 'label')
  assert made.graded == ('label', 'teacher_label')[: 1 + of_teacher]
  assert made.pairs_tasks == made.trains_on_blanks == (method == 'dss')
  assert made.trains_on_blank_labels == of_teacher
  assert not made.checks_rationales
  plain = mixtures.Experiment('cqa', **options)
  assert not (
    plain.pairs_tasks or plain.trains_on_blanks or plain.swaps_rationales
    or plain.trains_on_blank_labels
  )  # fmt: skip
  correct = mixtures.Experiment(
    'cqa', which_rationales='correct_only', **options
  )
  assert correct.checks_rationales == with_rationales
  assert (made.draw_seed, made.fraction, made.rationale_rate) == (0, 1.0, 1.0)
  assert dataclasses.replace(made, seed=None).draw_seed == 0
  assert dataclasses.replace(made, seed=7).draw_seed == 7
