"""Tasks and mixtures of several kinds: names, examples, steps, and refusals."""

import json

import numpy as np
import pytest
import seqio

from dss_jax import errors, feature_converters, mixtures

pytestmark = pytest.mark.usefixtures('tfds_dir')

LENGTHS = {'inputs': 64, 'targets': 48}
_ROWS = 60


@pytest.fixture(scope='module')
def path(tmp_path_factory):
  """Rows with thoughts, and two thirds of them with programs."""
  found = tmp_path_factory.mktemp('kinds') / 'rows.jsonl'
  lines = []
  for n in range(_ROWS):
    rationale = {'thought': f'{n} comes before it.'}
    if n % 3:
      rationale['program'] = f'{n} + 1'
    lines.append({
      'input': f'What is {n} and 1?', 'label': str(n + 1),
      'rationale': rationale,
    })  # fmt: skip
  found.write_text(''.join(f'{json.dumps(line)}\n' for line in lines))
  return str(found)


def experiment(path, kinds=('thought', 'program'), **options):
  options = {'paired': True, 'teacher': 'teacher', **options}
  return mixtures.Experiment('custom', path, rationale_kinds=kinds, **options)


def texts(mixture, features):
  vocabulary = mixtures.sample_vocabulary()
  dataset = seqio.get_mixture_or_task(mixture).get_dataset(
    split='train', shuffle=False, num_epochs=1
  )
  return [
    [vocabulary.decode(e[name].tolist()) for name in features]
    for e in dataset.as_numpy_iterator()
  ]


def test_generated_tokens_bound_all_but_single_targets(path):
  finetune, dss, single = (
    experiment(path, kinds=('thought',), method=method)
    for method in ('finetune', 'dss', 'single_task')
  )
  for known in (finetune, dss):
    assert mixtures.eval_lengths(known) is None
    assert mixtures.eval_lengths(known, 1) == {'targets': 1}
  assert mixtures.eval_lengths(single, 5) is None
  for wrong in (0, -1, 2.5, True):
    with pytest.raises(errors.DataError, match=f'GENERATED_TOKENS is {wrong}'):
      mixtures.eval_lengths(single, wrong)


def test_labels_may_be_evaluated_alone(path):
  asked = experiment(path)
  name = mixtures.eval_mixture(experiment=asked, rationales=False)
  assert name == mixtures.eval_name(asked, False)
  found = seqio.get_mixture_or_task(name).tasks
  assert not [task.name for task in found if '_rationale' in task.name]
  with pytest.raises(TypeError, match='positional'):
    mixtures.eval_mixture(asked, False)


def test_what_is_not_there_cannot_be_described(tmp_path):
  with pytest.raises(errors.DataError, match='rows, found none there'):
    mixtures.describe(experiment(str(tmp_path / 'rows.jsonl')))


def test_names_say_which_kinds(path):
  name = mixtures.train_mixture(experiment(path))
  assert name.endswith('_gold_teacher.thought.and.program_paired')
  name = mixtures.train_mixture(experiment(path, paired=False))
  tasks = [t.name for t in seqio.get_mixture_or_task(name).tasks]
  assert tasks[0].endswith('_label_gold')
  assert tasks[1].endswith('_rationale2_teacher.program')
  assert tasks[2].endswith('_rationale_teacher.thought')
  evaluated = seqio.get_mixture_or_task(mixtures.eval_mixture(experiment(path)))
  assert len(evaluated.tasks) == 6
  # Weights are the model's alone; prefixes are the data's.
  weighed = experiment(path, (('thought', 3), ('program', 1)))
  assert mixtures.train_mixture(weighed) == mixtures.train_mixture(
    experiment(path)
  )
  other = experiment(path, ('thought', ('program', 1, 'code: ')))
  assert '.program.p' in mixtures.train_mixture(other)


def test_rows_that_lack_a_kind_are_counted_where_there_are_several(path):
  found = mixtures.describe(experiment(path)).without
  assert found.keys() == {'thought', 'program'}
  assert set(found['thought'].values()) == {0}
  assert sum(found['program'].values()) == _ROWS / 3
  one = mixtures.describe(experiment(path, ('thought',)))
  assert one.without == {}


def test_an_example_has_each_kind_with_its_prefix(path):
  pair = texts(
    mixtures.train_mixture(experiment(path)),
    ['rationale_inputs', 'rationale_targets', 'rationale2_inputs',
     'rationale2_targets'],
  )  # fmt: skip
  assert len(pair) == 48
  asked, thought, asked_again, program = pair[1]
  number = asked.split()[3]
  assert asked == f'explain: What is {number} and 1?'
  assert thought == f'{number} comes before it.'
  assert asked_again == f'program: What is {number} and 1?'
  assert program == f'{number} + 1'
  # A kind that a row lacks has no token, not even of its question.
  assert {(i, t) for _, _, i, t in pair if not t} == {('', '')}
  lacking = mixtures.describe(experiment(path)).without
  assert lacking['thought'] == {'train': 0, 'validation': 0, 'test': 0}
  assert lacking['program']['train'] == sum(not t for *_, t in pair) > 0


@pytest.mark.parametrize('pack', [True, False])
@pytest.mark.parametrize('paired', [True, False])
def test_a_step_has_its_labels_and_each_kind_of_the_same_questions(
  path, paired, pack
):
  step = mixtures.Step(experiment(path, paired=paired), LENGTHS, 16, pack=pack)
  rows = mixtures.rows_per_step(step)
  dataset = seqio.get_dataset(
    mixtures.step_mixture(step),
    LENGTHS,
    dataset_split='train',
    shuffle=True,
    num_epochs=None,
    feature_converter=feature_converters.DistillFeatureConverter(pack=pack),
    seed=0,
  )
  found = [*dataset.take(3 * rows).as_numpy_iterator()]
  ids = np.stack([row['decoder_task_ids'] for row in found])
  ends = np.stack([row['decoder_target_tokens'] for row in found]) == 1
  counts = [int((ends & (ids == task)).sum()) for task in (1, 2, 3)]
  assert counts[0] == 48
  # A label example has as many rationales as its row, or is drawn with them.
  assert counts[1] == 48
  assert counts[2] == 32 if paired else counts[2] == 48
  if paired and not pack:
    first = {int(t) for t in ids[:3, 0]}
    assert first <= {0, 1, 2, 3}


def test_teachers_are_kinds_of_published_rows(tmp_path):
  rows = [
    {'id': str(n), 'question': f'Which is {n}?', 'choices': ['a', 'b'],
     'answer': 'a', 'abstractive_explanation': '',
     'extractive_explanation': ''}
    for n in range(20)
  ]  # fmt: skip
  folder = tmp_path / 'cqa'
  for teacher, said in (('llm', 'Since {}.'), ('mine', 'code {}')):
    (folder / teacher).mkdir(parents=True)
    for split in ('train', 'test'):
      texts_of = [
        f'{said.format(n)} So the answer is (a) a.' if n % 4 else 'what'
        for n in range(20)
      ]
      name = folder / teacher / f'{split}_CoT_0.json'
      name.write_text(json.dumps(texts_of))
  for split in ('train', 'test'):
    lines = ''.join(f'{json.dumps(row)}\n' for row in rows)
    (folder / f'cqa_{split}.json').write_text(lines)
  given = mixtures.Experiment(
    'cqa', str(tmp_path), paired=True, teachers=('palm', 'mine')
  )
  name = mixtures.train_mixture(given)
  assert name.endswith('_gold_palm.and.mine_paired')
  found = texts(name, ['rationale_targets', 'rationale2_targets'])
  assert found[0][0].startswith('Since') and found[0][1].startswith('code')
  swapped = mixtures.Experiment(
    'cqa', str(tmp_path), paired=True, teachers=('mine', 'palm'),
    labels='teacher', teacher='palm',
  )  # fmt: skip
  found = texts(
    mixtures.train_mixture(swapped), ['rationale_targets', 'rationale2_targets']
  )
  assert found[0][0].startswith('code') and found[0][1].startswith('Since')
  single = mixtures.Experiment(
    'cqa', str(tmp_path), paired=False, teachers=('palm', 'mine')
  )
  tasks = seqio.get_mixture_or_task(mixtures.train_mixture(single)).tasks
  (second,) = [t.name for t in tasks if '_rationale2_' in t.name]
  ((asked, target), *_) = texts(second, ['inputs', 'targets'])
  assert asked.startswith('mine: Which') and target.startswith('code')


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'rationale_kinds': ('a', 'b')}, 'expected a teacher for each kind'),
    ({'teachers': ('palm', 'gold')}, "TEACHERS is 'gold'"),
    ({'teachers': ('palm', 'mine'), 'method': 'single_task'},
     "METHOD is 'single_task', whose target has one rationale"),
    ({'teachers': ('palm', 'mine'), 'keep_blank': True},
     'KEEP_BLANK is True and TEACHERS is'),
    ({'data_set': 'custom', 'data': 'rows.csv', 'teachers': ('a', 'b')},
     'TEACHERS is .* and DATA is rows of your own'),
    ({'data_set': 'custom',
      'data': mixtures.experiment_lib.own_rows.OwnData(
        'rows.csv', columns={'rationale.code': 'x'})},
     r"maps rationale\.code, and RATIONALE_KINDS is None"),
  ],
)  # fmt: skip
def test_what_kinds_do_not_go_with_is_refused(options, message):
  with pytest.raises(errors.DataError, match=message):
    mixtures.Experiment(**{'data_set': 'cqa', **options})
