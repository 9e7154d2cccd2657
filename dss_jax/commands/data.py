"""The commands `dss data inspect` and `dss data prepare`.

Training would do both by itself: `inspect` shows beforehand what it would see,
and `prepare` writes what it reads, where many hosts are to read it.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from dss_jax import errors, neutral
from dss_jax.data import own_options
from t5x.cli import quiet_tensorflow, stages

if TYPE_CHECKING:
  from dss_jax.pipeline import experiment as experiment_lib


def _part(text: str) -> str | float:
  """Returns a fraction where a text is one, else the text: a path."""
  try:
    return float(text)
  except ValueError:
    return text


@contextlib.contextmanager
def _loading(about: str) -> Iterator[None]:
  """Says what a command is about, and that it loads libraries, for a while."""
  neutral.say(about, err=True)
  stages.begin('loading libraries', alone=True)
  try:
    quiet_tensorflow.load()
    yield
    stages.end()
  finally:
    stages.drop()


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
      click.option(
        '--teachers',
        metavar='NAMES',
        help='Several teachers, each a kind of rationales: palm,mine.',
      ),
      click.option(
        '--kinds',
        metavar='NAMES',
        help='Kinds of rationales: thought,program.  [default: one, or those'
        ' that --column names]',
      ),
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
  kinds: str | None,
  teachers: str | None,
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
    kinds: names of the kinds of rationales, with commas; None for one, or for
      those that `column` names.
    teachers: likewise of several teachers.
    **options: of each experiment.
  """
  from dss_jax import vocabularies
  from dss_jax.data import own_rows
  from dss_jax.pipeline import experiment as experiment_lib

  data: str | own_rows.OwnData = path
  named = path in ('sample', 'release')
  own = data_set is None and not named and own_rows.is_own(path)
  if own or data_set == 'custom':
    data = own_rows.OwnData(
      path,
      _part(validation),
      _part(test),
      own_options.columns(column) or None,
      by_value,
      classes or None,
    )
    data_sets, teacher = ['custom'], 'teacher'
  else:
    data_sets = [data_set] if data_set else _found(path)
  named_kinds = kinds.split(',') if kinds else None
  mapped = own_options.mapped_kinds(list(own_options.columns(column)))
  options['rationale_kinds'] = named_kinds or mapped or None
  options['teachers'] = teachers.split(',') if teachers else None
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


def _lengths(
  data_set: str, size: str, gin_files: Sequence[str]
) -> dict[str, int]:
  """Returns the lengths to which a run's examples are cut.

  Args:
    data_set: 'cqa', …, 'custom'.
    size: the name of a file in gin/sizes.
    gin_files: those of the run after that.

  Raises:
    DataError: there is no such size, or the files set no lengths.
  """
  from dss_jax import run_config

  files = [f'gin/dss_{data_set}.gin', f'gin/sizes/{size}.gin', *gin_files]
  # The lengths don't depend on DATA, which own rows must give.
  with run_config.configured(files, ["DATA = 'rows'"]):
    lengths = run_config.macro('TASK_FEATURE_LENGTHS')
  return {side: int(lengths[side]) for side in ('inputs', 'targets')}


@click.group()
def data() -> None:
  """Looks at data, or prepares it for training."""


@data.command()
@click.argument('path')
@_options
@click.option(
  '--size',
  default='tiny',
  help="The run's size, a file in gin/sizes: its lengths are shown.",
)
@click.option(
  '--gin_file',
  'gin_files',
  multiple=True,
  help="Further gin files of the run, after its size's.",
)
@click.option(
  '--inputs', type=click.IntRange(1), help="Instead of the run's own length."
)
@click.option(
  '--targets', type=click.IntRange(1), help="Instead of the run's own length."
)
def inspect(
  path: str,
  size: str,
  gin_files: Sequence[str],
  inputs: int | None,
  targets: int | None,
  **options,
) -> None:
  """Prints what training would see of PATH.

  PATH is 'sample', a folder or zip in the published layout, or rows of your
  own: JSON, CSV or Parquet, a file, a folder or a glob. Examples are cut to the
  lengths that a run of this size has, unless INPUTS and TARGETS are given.
  """
  if path == 'release':
    raise errors.DataError(
      "PATH is 'release': expected files to look at. Give the path of the"
      ' archive; `dss data prepare release` fetches it.'
    )
  with _loading(f'Looking at {path}'):
    from dss_jax.commands import inspection, inspection_screen

  for experiment in _experiments(path, **options):
    lengths = _lengths(experiment.data_set, size, gin_files)
    lengths['inputs'] = inputs or lengths['inputs']
    lengths['targets'] = targets or lengths['targets']
    found = inspection.inspect(experiment, lengths)
    inspection_screen.show(experiment, found)


@data.command()
@click.argument('path')
@_options
@click.option('--tfds-data-dir', help='Where to keep it, local or gs://.')
def prepare(path: str, tfds_data_dir: str | None, **options) -> None:
  """Writes the TFDS version of PATH, which training reads.

  PATH is 'sample', 'release' (fetched once), a folder or zip in the published
  layout, or rows of your own. Training does this by itself; do it before
  where many hosts read the same data, and give them --tfds_data_dir.
  """
  with _loading(f'Preparing {path}'):
    import seqio

    from dss_jax.data import own_rows, tfds_builders
    from dss_jax.pipeline import registration

  if tfds_data_dir:
    seqio.set_tfds_data_dir_override(tfds_data_dir)
  for experiment in _experiments(path, **options):
    if isinstance(experiment.rows, own_rows.OwnData):
      registration.check_files(experiment)
    # Label tasks read the rows without a teacher's outputs.
    for teacher in sorted({None, *experiment.used_teachers}, key=str):
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
