"""The commands `dss train`, `dss check` and `dss options`.

  dss train tickets.jsonl --column input=ticket --out runs/tickets

What needs TensorFlow or JAX is imported after the options are checked.
"""

import os
import re
import shutil
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from dss_jax import command_lines, errors, neutral
from dss_jax.data import own_options
from dss_jax.training import composition, run_file
from dss_jax.training import options as options_lib
from t5x.cli import gin_reader, quiet_tensorflow, stages

if TYPE_CHECKING:
  from dss_jax.training import checks

# Columns of a fact's name, and of all of it.
_NAME, _WIDTH = 12, 100


def _options(function: Callable) -> Callable:
  """Adds the options that say which run is meant."""
  for option in reversed(
    (
      click.option(
        '--method',
        help='dss, finetune or single_task.  [default: dss]',
      ),
      click.option(
        '--column',
        multiple=True,
        metavar='NAME=COLUMN',
        help='Own rows: what the file calls input, label, rationale or'
        ' teacher_label; repeatable.',
      ),
      click.option(
        '--kinds',
        metavar='NAMES',
        help='Kinds of rationales: thought,program.  [default: one, or those'
        ' that --column names]',
      ),
      click.option(
        '--size',
        help='tiny, small, base, large, flan_t5/small, …  [default: tiny]',
      ),
      click.option('--teacher', help="Whose outputs; own rows' have no name."),
      click.option(
        '--teachers',
        metavar='NAMES',
        help='Of a data set: several teachers, each a kind: palm,mine.',
      ),
      click.option(
        '--labels', help='To train on: gold or teacher.  [default: gold]'
      ),
      click.option(
        '--fraction', type=float, help='Part of the train rows.  [default: 1]'
      ),
      click.option('--steps', type=int, help='Of training.'),
      click.option(
        '--data', help="Of a data set: 'release' or a path.  [default: sample]"
      ),
      click.option(
        '--test',
        help='Own rows: a file with gold labels to evaluate on.'
        '  [default: a tenth of the rows, set apart]',
      ),
      click.option(
        '--set',
        'settings',
        multiple=True,
        metavar='NAME=VALUE',
        help='Any other macro, which `dss options` lists; repeatable. Words'
        ' need no quotes.',
      ),
    )
  ):
    function = option(function)
  return function


def _asked(
  what: str,
  column: Sequence[str],
  settings: Sequence[str],
  out: str | None,
  kinds: str | None,
  teachers: str | None,
  **given: Any,
) -> options_lib.Options:
  if not out:
    raise errors.DataError(
      '--out: expected a folder for the run, such as --out runs/mine; found'
      ' none.'
    )
  return options_lib.Options(
    what=what,
    column=own_options.columns(column),
    kinds=options_lib.names(kinds),
    teachers=options_lib.names(teachers),
    set=options_lib.settings(settings),
    out=out.rstrip('/'),
    **given,
  )


@click.command()
@click.argument('what')
@_options
@click.option('--out', help='Folder of the run.')
@click.option(
  '--dry-run', is_flag=True, help='Print the gin file, and do nothing.'
)
def train(dry_run: bool, **given: Any) -> None:
  """Trains a small model on rows of your own, or on a data set.

  WHAT is a file of rows (.jsonl, .csv, .parquet, …), a folder or a glob of
  them, a data set (cqa, svamp, asdiv, esnli, anli1), or a gin file. Lengths,
  steps and periods come from the rows.

  Writes OUT/run.gin, prints it, and trains as `python -m t5x.train
  --gin_file=OUT/run.gin` does. The same command again goes on with a run that
  was interrupted.

  \b
  Example:
    dss train tickets.jsonl --column input=ticket --out runs/tickets
  """  # noqa: D301
  asked = _asked(**given)
  neutral.say(f'Training on {asked.title}', err=True)
  run = composition.compose(asked)
  folder = run_file.Folder(asked.out)
  if run.step is None:
    neutral.say(run.file.text)
  else:
    neutral.say(
      f'{folder.path} is there: going on from step {run.step}.', err=True
    )
  if dry_run:
    return
  if run.step is None and folder.write(run.file):
    neutral.say(
      f'{folder.path} was there, and another one: no step of it was saved, and'
      ' this one takes its place.',
      err=True,
    )
  composition.train(folder.path)


@click.command()
@click.argument('what', required=False)
@_options
@click.option('--out', help='Folder of the run, to be looked at, too.')
@click.option(
  '--gin-file',
  '--gin_file',
  'gin_files',
  multiple=True,
  help='In place of WHAT: a gin file, as t5x.train takes it; repeatable.',
)
def check(what: str | None, gin_files: Sequence[str], **given: Any) -> None:
  """Checks a run before it trains: rows, cuts, steps, memory.

  Takes what `dss train` takes, or the gin files of `python -m t5x.train`.
  Prepares the data as the run would, and writes nothing to its folder.

  \b
  Example:
    dss check tickets.jsonl --column input=ticket
  """  # noqa: D301
  asked = None
  if gin_files:
    if what or any(v for k, v in given.items()):
      raise errors.DataError(
        '--gin-file: expected no other option beside gin files, which say all'
        ' of it. Leave the others out.'
      )
    neutral.say(f'Checking {", ".join(gin_files)}', err=True)
  elif what is None:
    raise errors.DataError(
      'dss check: expected what `dss train` takes, such as a file of rows, or'
      ' --gin-file; found neither.'
    )
  else:
    asked = _asked(what, **given | {'out': given['out'] or _folder_for(what)})
    neutral.say(f'Checking {asked.title}', err=True)
  faults: list[str] = []
  where = ''
  if asked is None:
    macros = gin_reader.read(gin_files).macros
    where = str(macros['MODEL_DIR'].value) if 'MODEL_DIR' in macros else '-'
  elif not given['out']:
    where = f'{asked.out}, for example: --out says where'
  else:
    try:
      where = _place(asked)
    except errors.DataError as error:
      faults.append(str(error))
  found = None
  try:
    found = _found(asked, gin_files)
  except Exception as error:
    if not isinstance(getattr(error, 'exit_code', None), int):
      raise
    faults.insert(0, str(error))
  if found is not None:
    _show(found, where)
  if faults:
    raise errors.DataError('\n\nError: '.join(faults))
  if asked is not None:
    command = command_lines.typed(asked.words('train'), '  ')
    neutral.say(f'\nNothing is wrong. To train:\n{command}')


def _folder_for(what: str) -> str:
  """Returns a folder to suggest for a run, named after what it trains on."""
  name = os.path.basename(what.rstrip('/')).partition('.')[0]
  return f'runs/{re.sub(r"[^-_0-9A-Za-z]", "", name) or "mine"}'


def _place(asked: options_lib.Options) -> str:
  """Returns where a run writes, and whether it is new.

  Raises:
    DataError: the folder holds another run.
  """
  folder = run_file.Folder(asked.out)
  if folder.begun(asked) is None:
    return f'{asked.out}, a new run'
  return f'{asked.out}, going on from step {folder.step}'


def _found(
  asked: options_lib.Options | None, gin_files: Sequence[str]
) -> 'checks.Findings':
  """Returns what is found out about a run."""
  stages.begin('loading libraries', alone=True)
  quiet_tensorflow.load()
  from dss_jax.training import checks

  try:
    text = '' if asked is None else composition.new_file(asked).text
    stages.begin('checking the run')
    found = checks.check(gin_files, more=text)
    stages.end()
    return found
  finally:
    stages.drop()  # Before the message of an error.


def _show(found: 'checks.Findings', where: str) -> None:
  width = min(shutil.get_terminal_size().columns, _WIDTH)
  for name, text in (*found.facts, ('writes to', where)):
    neutral.say(
      textwrap.fill(
        neutral.line(text),
        width,
        initial_indent=f'{name:<{_NAME}} ',
        subsequent_indent=' ' * (_NAME + 1),
        break_on_hyphens=False,
      )
    )
  for warning in found.warnings:
    neutral.say(f'\nlook at: {warning}')


@click.command()
@click.argument('experiment', required=False)
@click.option('--search', help='A word of the name or of the meaning.')
@click.option('--size', help='As of `dss train`.')
@click.option(
  '--markdown', is_flag=True, help='All experiments, as docs/macros.md has it.'
)
def options(
  experiment: str | None, search: str | None, size: str | None, markdown: bool
) -> None:
  """Lists every macro of a run: value, meaning, and the file that sets it.

  EXPERIMENT is a data set (cqa, …), 'custom' for rows of your own, or a gin
  file; by default what all experiments share. Any of the macros is set by
  `dss train --set NAME=VALUE`, or by --gin.NAME=VALUE of t5x.train.

  \b
  Example:
    dss options cqa --search rationale
  """  # noqa: D301
  from dss_jax.training import reference

  if markdown:
    neutral.say(reference.markdown().rstrip('\n'))
    return
  if size is not None:
    options_lib.check_size(size)
  found = reference.macros(experiment, size)
  if search:
    found = reference.search(found, search)
    if not found:
      raise errors.DataError(
        f'--search {search}: no macro has this word in its name or meaning.'
        ' `dss options` lists them all.'
      )
  console = neutral.console()
  console.print(reference.table(found))
