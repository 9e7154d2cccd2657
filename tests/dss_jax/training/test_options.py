"""Tests of the options of `dss train`, which need no row."""

import pytest

from dss_jax import errors
from dss_jax.training import options as options_lib

Options = options_lib.Options


def test_options_are_macros_and_words(rows):
  del rows
  asked = Options(
    'rows.jsonl',
    method='finetune',
    column={'input': ('ticket',), 'rationale': ('a', 'b')},
    size='base',
    labels='teacher',
    fraction=0.5,
    steps=40,
    test='rows.jsonl',
    set=options_lib.settings(['RATIONALES=correct_only', 'ALPHA = 0.3']),
    out='runs/a',
  )
  assert asked.includes == ('gin/dss_custom.gin', 'gin/sizes/base.gin')
  assert asked.asked == {
    'DATA': "'rows.jsonl'",
    'COLUMNS': "{'input': 'ticket', 'rationale': ['a', 'b']}",
    'TEST': "'rows.jsonl'",
    'METHOD': "'finetune'",
    'LABELS': "'teacher'",
    'FRACTION': '0.5',
    'TRAIN_STEPS': '40',
    'MODEL_DIR': "'runs/a'",
    'RATIONALES': "'correct_only'",
    'ALPHA': '0.3',
  }
  assert ' '.join(asked.words('check')) == (
    'dss check rows.jsonl --column input=ticket --column rationale=a,b'
    ' --method finetune --size base --labels teacher --fraction 0.5 --steps 40'
    ' --test rows.jsonl --set RATIONALES=correct_only --set ALPHA=0.3'
    ' --out runs/a'
  )


def test_a_data_set_has_its_experiment():
  asked = Options('svamp', data='release', out='runs/s')
  assert asked.includes == ('gin/dss_svamp.gin',)
  assert asked.asked == {'DATA': "'release'", 'MODEL_DIR': "'runs/s'"}
  assert asked.title == 'svamp (release): method dss, size tiny, in runs/s'
  assert 'svamp (sample)' in Options('svamp', out='x').title


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ({'what': 'row.jsonl'}, "Did you mean 'rows.jsonl'"),
    ({'what': 'sv'}, 'expected a data set \\(cqa'),
    ({'size': 'bas'}, "--size bas: .* Did you mean 'base'"),
    ({'method': 'fine'}, "--method is 'fine': expected one of dss"),
    ({'labels': 'golden'}, "--labels .* Did you mean 'gold'"),
    ({'steps': 0}, '--steps 0: expected a number from 1'),
    ({'fraction': 1.5}, '--fraction 1.5: expected'),
    ({'set': {'ALPA': '1'}}, "--set ALPA: .* Did you mean 'ALPHA'"),
    ({'set': {'TEST': '1'}}, '--set TEST: .* --test'),
    ({'column': {'inpt': ('a',)}}, "Did you mean 'input'"),
    ({'data': 'release'}, '--data release: .* Leave --data out'),
    ({'test': 'gold.csv'}, 'gold.csv: expected a file with rows'),
    ({'what': 'cqa', 'test': 'rows.jsonl'}, '--test: .* Leave --test out'),
    ({'what': 'cqa', 'column': {'id': ('a',)}}, '--column: expected a file'),
  ],
)
def test_a_mistake_is_one_message(rows, given, message):
  del rows
  with pytest.raises(errors.DataError, match=message):
    Options(**({'what': 'rows.jsonl', 'out': 'runs/a'} | given))


@pytest.mark.parametrize(
  ('pair', 'message'),
  [
    ('ALPHA', 'expected NAME=VALUE'),
    ('ALPHA=', 'expected NAME=VALUE'),
    ('a.b=1', 'expected a macro in capitals'),
    ('ALPHA=[1', 'expected a value such as'),
  ],
)
def test_a_setting_that_is_none(pair, message):
  with pytest.raises(errors.DataError, match=message):
    options_lib.settings([pair])


def test_kinds_are_those_asked_for_or_those_that_columns_name(rows):
  del rows
  column = {'rationale.thought': ('why',), 'rationale.program': ('code',)}
  asked = Options('rows.jsonl', column=column, out='runs/a')
  assert asked.asked['RATIONALE_KINDS'] == "('thought', 'program')"
  asked = Options('rows.jsonl', column=column, kinds=('program',), out='a')
  assert asked.asked['RATIONALE_KINDS'] == "('program',)"
  assert asked.words('train')[-4:-2] == ['--kinds', 'program']
  asked = Options('cqa', teachers=('palm', 'mine'), out='runs/a')
  assert asked.asked['TEACHERS'] == "('palm', 'mine')"
  with pytest.raises(errors.DataError, match='Leave --kinds out'):
    given = options_lib.settings(["RATIONALE_KINDS=('a',)"])
    Options('rows.jsonl', kinds=('a',), set=given, out='runs/a')
