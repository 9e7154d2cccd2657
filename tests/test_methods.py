"""The shipped experiments, each data set with each method, on the samples.

The rows of the table: `pytest -m slow -n 0 -rP tests/test_methods.py`.
"""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import seqio

from dss_jax.data import tfds_builders
from t5x import train
from tests.t5x import entry_points

# One device, for which compiling takes half the time.
_ONE_DEVICE = """
from __gin__ import dynamic_registration

from tests.t5x import entry_points
from t5x import partitioning

partitioning.PjitPartitioner.devices = @entry_points.one_device()
"""
DATA_SETS = ('cqa', 'svamp', 'asdiv', 'esnli', 'anli1', 'custom')
METHODS = (
  ('finetune', 'gold', None),
  ('finetune', 'teacher', None),
  ('dss', 'gold', None),
  ('dss', 'teacher', None),
  ('single_task', 'gold', None),
  ('single_task', 'teacher', None),
  ('dss', 'gold', 'gpt_neox'),
)
CASES = [
  (data_set, *method)
  for data_set in DATA_SETS
  for method in METHODS
  # These have no outputs of a second teacher.
  if not (method[2] and data_set in ('asdiv', 'custom'))
]


@dataclasses.dataclass(frozen=True)
class Row:
  """What came of a short run.

  Attributes:
    data_set: its name.
    method: METHOD.
    labels: LABELS.
    teacher: TEACHER, or 'own' for rows of one's own.
    first: mean loss of the first fifth of the steps.
    last: of the last fifth.
    accuracy: of the labels of a few test rows, in percent.
  """

  data_set: str
  method: str
  labels: str
  teacher: str
  first: float
  last: float
  accuracy: float

  def __str__(self):
    """Writes it as a line of the table."""
    return (
      f'{self.data_set:<7} {self.method:<11} {self.labels:<7}'
      f' {self.teacher:<8} {self.first:>7.3f} {self.last:>7.3f}'
      f' {self.accuracy:>5.1f}%'
    )


@pytest.fixture(scope='module', autouse=True)
def shared(tmp_path_factory):
  """One place for prepared data and compiled steps."""
  folder = tmp_path_factory.mktemp('shared')
  seqio.set_tfds_data_dir_override(str(folder / 'tfds'))
  with entry_points.shared_compilation(folder / 'compiled'):
    yield folder
  seqio.set_tfds_data_dir_override(None)


@pytest.fixture(scope='module')
def own_rows(shared):
  """A file with rows of one's own; a sixth of the teacher's labels is wrong."""
  path = shared / 'rows.jsonl'
  things = ('tuna', 'violin', 'horse', 'car', 'sweater', 'hammer')
  colours = ('red', 'green', 'blue')
  rows = [
    {
      'input': f'Which colour has {thing} number {n}?',
      'label': colours[n % 3],
      'rationale': [f'The {thing} is {colours[n % 3]}.', f'Number {n}.'],
      'teacher_label': colours[n % 3 if n % 4 else 0],
    }
    for thing in things
    for n in range(10)
  ]
  path.write_text('\n'.join(map(json.dumps, rows)), encoding='utf-8')
  return str(path)


@pytest.fixture(scope='module')
def with_gpt_neox(shared):
  """The sample, with the outputs in a second teacher's place as well."""
  folder = shared / 'release'
  if not folder.exists():
    shutil.copytree(tfds_builders.sample_location(), folder)
    for part in sorted(folder.glob('*/llm')):
      for split in ('train', 'valid', 'test'):
        files = sorted(part.glob(f'{split}_CoT_*.json'))
        said = [text for file in files for text in json.loads(file.read_text())]
        if said:
          target = folder / 'gpt-neox' / part.parent.name / f'{split}.json'
          target.parent.mkdir(parents=True, exist_ok=True)
          target.write_text(json.dumps(said), encoding='utf-8')
  return str(folder)


def short_run(folder, data_set, method, labels, steps, **macros) -> Row:
  """Trains with the shipped gin file, and reads what the run wrote."""
  one_device = folder / 'one_device.gin'
  one_device.parent.mkdir(parents=True, exist_ok=True)
  one_device.write_text(_ONE_DEVICE)
  run = folder / 'run'
  entry_points.call(
    train.train,
    [f'gin/dss_{data_set}.gin', str(one_device)],
    METHOD=method,
    LABELS=labels,
    MODEL_DIR=str(run),
    TRAIN_STEPS=steps,
    WARMUP_STEPS=5,
    EVAL_PERIOD=steps,
    SAVE_PERIOD=steps,
    EVAL_STEPS=0,
    STATS_PERIOD=1,
    EVAL_NUM_EXAMPLES=20,
    EVAL_RATIONALES=False,
    **macros,
  )
  lines = (run / 'train/metrics.jsonl').read_text().splitlines()
  losses = [line['loss'] for line in map(json.loads, lines) if 'loss' in line]
  assert len(losses) == steps
  (metrics,) = run.glob('inference_eval/*_test*-metrics.jsonl')
  accuracy = json.loads(metrics.read_text().splitlines()[-1])['accuracy']
  part = steps // 5
  first, last = np.mean(losses[:part]), np.mean(losses[-part:])
  teacher = macros.get('TEACHER') or ('own' if data_set == 'custom' else 'palm')
  return Row(data_set, method, labels, teacher, first, last, accuracy)


def macros_of(data_set, teacher, request):
  """Returns where the data is, where it is not the sample."""
  if data_set == 'custom':
    return {'DATA': request.getfixturevalue('own_rows')}
  if teacher is None:
    return {}
  return {'DATA': request.getfixturevalue('with_gpt_neox'), 'TEACHER': teacher}


@pytest.mark.slow
@pytest.mark.parametrize(('data_set', 'method', 'labels', 'teacher'), CASES)
def test_each_experiment_improves_its_own_loss(
  data_set, method, labels, teacher, request, tmp_path
):
  macros = macros_of(data_set, teacher, request)
  row = short_run(tmp_path, data_set, method, labels, 40, **macros)
  print(row)
  assert row.last < 0.8 * row.first
  assert 0.0 <= row.accuracy <= 100.0


def test_own_rows_and_a_teachers_labels_improve_their_loss(own_rows, tmp_path):
  row = short_run(tmp_path, 'custom', 'dss', 'teacher', 10, DATA=own_rows)
  assert row.last < 0.9 * row.first
