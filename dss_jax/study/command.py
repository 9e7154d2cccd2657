"""The command `dss study`: a grid of runs, and the report on them.

dss study cqa --methods finetune,dss --fractions 0.25,0.5,1 --seeds 4 \
    --out studies/cqa
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import click

from dss_jax import errors
from dss_jax.data import own_options
from dss_jax.study import experiments, study_file
from dss_jax.study import grid as grid_lib

# Options that have several values, with commas between them.
_LISTS = (
  'methods', 'fractions', 'sizes', 'labels', 'teachers', 'kinds', 'alphas'
)  # fmt: skip
_NUMBERS = ('fractions', 'alphas')


def _split(name: str, text: str) -> tuple[Any, ...]:
  """Returns the values of an option with commas between them."""
  values = [part.strip() for part in text.split(',') if part.strip()]
  if name not in _NUMBERS:
    return tuple(values)
  try:
    return tuple(map(float, values))
  except ValueError as error:
    raise errors.DataError(
      f'--{name} {text}: expected numbers with commas between them.'
    ) from error


def _settings(pairs: Sequence[str]) -> dict[str, str]:
  """Returns the bindings of `--set NAME=VALUE`."""
  found = {}
  for pair in pairs:
    name, equals, value = pair.partition('=')
    if not equals:
      raise errors.DataError(
        f'--set {pair!r}: expected NAME=VALUE, such as LEARNING_RATE=1e-4.'
      )
    found[name.strip()] = grid_lib.gin_value(value)
  return found


def _columns(pairs: Sequence[str]) -> dict[str, str]:
  """Returns the binding of `--column NAME=COLUMN`, if it is given."""
  found = own_options.as_macro(own_options.columns(pairs))
  return {'COLUMNS': repr(found)} if found else {}


def _asked(argument: str, given: dict[str, Any]) -> dict[str, Any]:
  """Returns the options of a grid and `out`: of a study file, then given.

  Args:
    argument: the first one, which may be a study file.
    given: options of the command that were given.
  """
  options: dict[str, Any] = {}
  if argument.lower().endswith(study_file.ENDINGS):
    options = study_file.load(pathlib.Path(argument))
    if 'experiment' not in options | given:
      raise errors.DataError(
        f'{argument}: expected a line such as `experiment: cqa`, with what'
        " would be the command's first argument."
      )
  else:
    if 'experiment' in given:
      raise errors.DataError(
        f'--experiment {given["experiment"]}: expected a study file with it,'
        f' found {argument!r}. Give one of them.'
      )
    options['experiment'] = argument
  settings = options.get('set', {}) | given.pop('set', {})
  options |= given
  if settings:
    options['set'] = settings
  for name in ('experiment', 'data'):
    if name in options:
      options[name] = experiments.absolute(options[name])
  if 'gin_file' in options:
    options['gin_file'] = tuple(map(experiments.absolute, options['gin_file']))
  return options


def _out(options: dict[str, Any]) -> pathlib.Path:
  if 'out' not in options:
    raise errors.DataError(
      '--out: expected a folder for the runs and what comes out, such as'
      ' --out studies/mine; found none.'
    )
  if '://' in options['out']:
    raise errors.DataError(
      f'--out {options["out"]}: expected a folder of this machine, or one that'
      ' all machines share, since runs lock files in it.'
    )
  return pathlib.Path(options['out']).absolute()


@click.command()
@click.argument('what')
@click.option(
  '--methods',
  help='finetune, distill, dss, single_task, shuffled, with commas between'
  ' them; the others are compared with the first.  [default: finetune,dss]',
)
@click.option('--fractions', help='Parts of the training rows.  [default: 1]')
@click.option('--seeds', type=int, help='How many, from 0.  [default: 3]')
@click.option(
  '--experiment', help='In place of the one that a study file names.'
)
@click.option('--sizes', help='base, large, flan_t5/small, …: gin/sizes.')
@click.option('--labels', help='gold, teacher or both.  [default: gold]')
@click.option('--teachers', help='palm, or names of your own.')
@click.option(
  '--kinds',
  help='Of rationales, with + between those that are learned together:'
  ' thought,thought+program; of a data set they are teachers.',
)
@click.option('--alphas', help='Weights of the label loss.')
@click.option('--data', help="'release', or a path.")
@click.option('--steps', type=int, help='Of each run; TRAIN_STEPS.')
@click.option(
  '--rationales/--no-rationales',
  default=None,
  help='Whether generated rationales are evaluated, too; takes longer.'
  '  [default: no]',
)
@click.option(
  '--gin_file',
  multiple=True,
  help='A gin file on top of experiment and size; repeatable.',
)
@click.option(
  '--set',
  'settings',
  multiple=True,
  metavar='NAME=VALUE',
  help='A macro of the gin files; repeatable. Words need no quotes.',
)
@click.option(
  '--column',
  multiple=True,
  metavar='NAME=COLUMN',
  help='Own rows: what the file calls input, label, rationale or'
  ' teacher_label; repeatable.',
)
@click.option('--out', help='Folder of the study.')
@click.option(
  '--workers',
  type=int,
  help='Runs beside each other, each on cores or a GPU of its own.'
  '  [default: one a GPU, or 1]',
)
@click.option(
  '--scheduler',
  metavar='tcp://HOST:PORT',
  help='A Dask scheduler, whose workers do the runs.',
)
@click.option(
  '--resources',
  metavar='NAME=NUMBER',
  multiple=True,
  help="What a run takes of what Dask's workers declare, such as GPU=1.",
)
@click.option('--dry-run', is_flag=True, help='Print the runs, and do nothing.')
def study(
  what: str,
  settings: Sequence[str],
  gin_file: Sequence[str],
  column: Sequence[str],
  workers: int | None,
  scheduler: str | None,
  resources: Sequence[str],
  dry_run: bool,
  **given: Any,
) -> None:
  """Compares methods by a grid of runs.

  WHAT is a data set (cqa, svamp, asdiv, esnli, anli1), a gin file, a file of
  rows (.jsonl, .csv, …), or a study file (.yaml) with these options.

  The same command again does what is missing, and goes on with runs that were
  interrupted.
  """
  options = {k: v for k, v in given.items() if v is not None}
  options |= {k: _split(k, options[k]) for k in _LISTS if k in options}
  if gin_file:
    options['gin_file'] = tuple(gin_file)
  if settings or column:
    options['set'] = _settings(settings) | _columns(column)
  asked = _asked(what, options)
  out, grid = _out(asked), study_file.grid_of(asked)
  if scheduler is not None and workers is not None:
    raise errors.DataError(
      '--workers and --scheduler: expected one of them, since the cluster'
      ' says how many workers it has.'
    )
  if resources and scheduler is None:
    raise errors.DataError(
      '--resources: expected --scheduler with it, whose workers declare them.'
    )
  # Imported late, so that `--help` and mistakes are quick.
  from dss_jax.study import session

  made = session.Session(out, grid)
  if dry_run:
    made.preview(workers)
    return
  code = made.work(workers, scheduler, resources)
  if code:
    raise SystemExit(code)
