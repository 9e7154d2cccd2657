"""The commands `dss data inspect` and `dss data prepare`.

Training would do both by itself: `inspect` shows beforehand what it would see,
and `prepare` writes what it reads, where many hosts are to read it.
"""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from dss_jax import errors
from t5x import neutral
from t5x.cli import quiet_tensorflow

if TYPE_CHECKING:
  from dss_jax.pipeline import experiment as experiment_lib

# Fine-tuning's own lengths, see gin/sizes/finetune.gin.
_LENGTHS = {'inputs': 512, 'targets': 256}


def _part(text: str) -> str | float:
  """Returns a fraction where a text is one, else the text: a path."""
  try:
    return float(text)
  except ValueError:
    return text


def _columns(pairs: Sequence[str]) -> dict[str, list[str]] | None:
  result = {}
  for pair in pairs:
    name, equals, columns = pair.partition('=')
    if not equals:
      raise errors.DataError(
        f'--column {pair!r}: expected NAME=COLUMN, such as input=question.'
      )
    result[name] = columns.split(',')
  return result or None


def _options(function: Callable) -> Callable:
  """Adds the options that say which data is meant."""
  for option in reversed(
    (
      click.option(
        '--data-set',
        help='cqa, svamp, asdiv, esnli or anli1; needed where PATH holds'
        ' several.',
      ),
      click.option('--teacher', default='palm'),
      click.option('--method', default='dss'),
      click.option('--labels', default='gold'),
      click.option('--fraction', default=1.0),
      click.option('--seed', default=0),
      click.option(
        '--validation', default='0.1', help='Own rows: a file or a part.'
      ),
      click.option('--test', default='0.1', help='Own rows: a file or a part.'),
      click.option(
        '--column',
        multiple=True,
        metavar='NAME=COLUMN',
        help='Own rows: what the file calls input, label, rationale, …',
      ),
      click.option(
        '--class', 'classes', multiple=True, help='Own rows: a possible label.'
      ),
      click.option(
        '--by-value', is_flag=True, help='Own rows: labels are equations.'
      ),
      click.option(
        '--vocabulary',
        help="SentencePiece model; without it, the packaged sample's.",
      ),
    )
  ):
    function = option(function)
  return function


def _experiments(
  path: str,
  data_set: str | None,
  teacher: str,
  vocabulary: str | None,
  validation: str,
  test: str,
  column: Sequence[str],
  by_value: bool,
  classes: Sequence[str],
  **options: Any,
) -> list['experiment_lib.Experiment']:
  """Returns an experiment for each data set at a path.

  Args:
    path: of the data.
    data_set: the one of them that is meant; None for all.
    teacher: whose outputs, unless the rows are the user's own.
    vocabulary: a SentencePiece model.
    validation: as in `own_rows.OwnData`; likewise the others up to `classes`.
    test: likewise.
    column: likewise, as NAME=COLUMN.
    by_value: likewise.
    classes: likewise.
    **options: of each experiment.
  """
  quiet_tensorflow.load()
  from dss_jax import vocabularies
  from dss_jax.data import own_rows
  from dss_jax.pipeline import experiment as experiment_lib

  data: str | own_rows.OwnData = path
  own = os.path.splitext(path)[1].lower() in own_rows.ENDINGS
  if own and data_set in (None, 'custom'):
    data = own_rows.OwnData(
      path,
      _part(validation),
      _part(test),
      _columns(column),
      by_value,
      classes or None,
    )
    data_sets, teacher = ['custom'], 'teacher'
  else:
    data_sets = [data_set] if data_set else _found(path)
  if vocabulary:
    options['vocabulary'] = vocabularies.vocabulary(vocabulary)
  return [
    experiment_lib.Experiment(name, data, teacher=teacher, **options)
    for name in data_sets
  ]


def _found(path: str) -> list[str]:
  """Returns the data sets that a folder or zip holds.

  Raises:
    DataError: it holds none.
  """
  from dss_jax.data import archive, records, release, tfds_builders

  location = tfds_builders.sample_location() if path == 'sample' else path
  if path == 'release':
    return list(release.ROWS)
  found, problems = [], []
  for name in records.DATA_SETS:
    try:
      with archive.open_files(location, name):
        found.append(name)
    except errors.DataError as error:
      problems.append(error)
  if not found:
    raise problems[0]
  return found


@click.group()
def data() -> None:
  """Looks at data, or prepares it for training."""


@data.command()
@click.argument('path')
@_options
@click.option('--inputs', default=_LENGTHS['inputs'])
@click.option('--targets', default=_LENGTHS['targets'])
def inspect(path: str, inputs: int, targets: int, **options) -> None:
  """Prints what training would see of PATH.

  PATH is 'sample', a folder or zip in the published layout, or a .jsonl, .csv
  or .parquet file of your own. INPUTS and TARGETS are the task feature lengths
  that examples are cut to.
  """
  if path == 'release':
    raise errors.DataError(
      "PATH is 'release': expected files to look at. Give the path of the"
      ' archive; `dss data prepare release` fetches it.'
    )
  if min(inputs, targets) < 1:
    raise errors.DataError(
      f'--inputs {inputs} --targets {targets}: expected lengths from 1.'
    )
  quiet_tensorflow.load()
  from dss_jax.commands import inspection, inspection_screen

  lengths = {'inputs': inputs, 'targets': targets}
  for experiment in _experiments(path, **options):
    found = inspection.inspect(experiment, lengths)
    inspection_screen.show(experiment, found)


@data.command()
@click.argument('path')
@_options
@click.option('--tfds-data-dir', help='Where to keep it, local or gs://.')
def prepare(path: str, tfds_data_dir: str | None, **options) -> None:
  """Writes the TFDS version of PATH, which training reads.

  PATH is 'sample', 'release' (fetched once), a folder or zip in the published
  layout, or a file of your own. Training does this by itself; do it before
  where many hosts read the same data, and give them --tfds_data_dir.
  """
  quiet_tensorflow.load()
  import seqio

  from dss_jax.data import own_rows, tfds_builders
  from dss_jax.pipeline import registration

  if tfds_data_dir:
    seqio.set_tfds_data_dir_override(tfds_data_dir)
  for experiment in _experiments(path, **options):
    if isinstance(experiment.rows, own_rows.OwnData):
      registration.check_files(experiment)
    # Label tasks read the rows without a teacher's outputs.
    for teacher in sorted({None, experiment.used_teacher}, key=str):
      config = tfds_builders.find_config(
        experiment.data_set, experiment.rows, teacher
      )
      builder = tfds_builders.prepared(experiment.data_set, config)
      counts = ', '.join(
        f'{split} {info.num_examples}'
        for split, info in builder.info.splits.items()
      )
      neutral.say(f'{builder.name}/{config.name}: {counts}')
      neutral.say(f'  in {builder.data_path}')
