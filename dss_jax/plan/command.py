r"""The command `dss plan`: how a run fits accelerators that aren't there.

dss plan --gin_file=gin/dss_cqa.gin --gin_file=gin/sizes/xxl.gin \
    --topology v5e:16x16
"""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from dss_jax import neutral
from dss_jax.errors import DataError

if TYPE_CHECKING:
  from dss_jax.plan import child, counting


def _default_cache() -> str:
  base = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
  return os.path.join(base, 'dss_jax', 'plan.jsonl')


@click.command(
  context_settings={'ignore_unknown_options': True, 'allow_extra_args': True}
)
@click.option(
  '--gin_file',
  'gin_files',
  multiple=True,
  required=True,
  help='A gin file of the run; repeatable, later ones win.',
)
@click.option(
  '--gin_bindings',
  multiple=True,
  help='A gin binding; macros are shorter as --gin.NAME=VALUE.',
)
@click.option(
  '--topology',
  required=True,
  help='The chips: v5e:4x4, v5p:2x2x1, v6e:16x16, …, or gpu:h200.',
)
@click.option(
  '--batch_size', type=click.IntRange(1), help='Rows; else those of a step.'
)
@click.option('--decode', is_flag=True, help='Plan decoding, not training.')
@click.option(
  '--limit',
  default=4,
  type=click.IntRange(0),
  help='Maximum number of compilations; 0 for all that may be the best.',
)
@click.option(
  '--example_tokens',
  default=150,
  type=click.IntRange(1),
  help='Tokens of an example, both sides, for examples per second.',
)
@click.option(
  '--cache',
  type=click.Path(dir_okay=False),
  help='File of finished compilations, from which a killed plan continues.'
  '  [default: ~/.cache/dss_jax/plan.jsonl]',
)
@click.option(
  '--data',
  is_flag=True,
  help="Also tries rows of other lengths that suit the run's data.",
)
@click.option(
  '--why',
  is_flag=True,
  help="Says where the best one's time goes, by part of the network; of a TPU.",
)
@click.option(
  '--exact',
  is_flag=True,
  help="Also says what TPU's compiler itself expects of the best one, which it"
  ' does along with the code: several times as long a compilation.',
)
@click.option(
  '--write',
  type=click.Path(dir_okay=False),
  help="Writes the best one's gin lines to a file.",
)
@click.pass_context
def plan(
  context: click.Context,
  gin_files: Sequence[str],
  gin_bindings: Sequence[str],
  topology: str,
  batch_size: int | None,
  decode: bool,
  limit: int,
  example_tokens: int,
  cache: str | None,
  data: bool,
  why: bool,
  exact: bool,
  write: str | None,
) -> None:
  """Finds how a run fits a TPU topology, without one.

  Compiles the run's real training step with TPU's own compiler (extra 'plan')
  for the promising ways to split it, and prints what fits, what it costs, and
  the gin lines of the best. Needs no accelerator, data or weights.
  """
  from dss_jax.plan import child, counting, hardware, search, table
  from t5x import files
  from t5x.cli import stages

  chips = hardware.parse(topology)
  for name, is_asked in (('--why', why), ('--exact', exact)):
    if is_asked and not chips.is_tpu:
      raise DataError(
        f'{name}: {topology} is a GPU, for which a plan is counted and not'
        ' compiled, so that no program says where its time goes. Leave it out.'
      )
  if data and decode:
    raise DataError('--data: decoding packs no rows. Leave out one of both.')
  if write:
    _check_place(write)
  options = {
    'gin_files': list(gin_files),
    'gin_bindings': [*gin_bindings, *_macros(context)],
    'topology': topology,
    'cache': cache or _default_cache(),
  }
  neutral.say(f'A plan for {topology}', err=True)
  with child.Child(options) as worker:
    stages.begin('looking at the run')
    try:
      described = worker.call(
        'describe', count_rows=not (batch_size or decode), find_shapes=data
      )
      stages.end()
    finally:
      stages.drop()
    model = counting.Model(**described['model'])
    rows = batch_size or described['decode_rows' if decode else 'rows']
    if rows is None:
      raise DataError(
        'The gin files set no EVAL_BATCH_SIZE: give --batch_size.'
      )
    workload = counting.Workload(model, chips, decode)
    if data:
      choices = search.shaped_candidates(workload, rows, described['shapes'])
    else:
      choices = search.candidates(workload, rows)

    def compile_step(candidate):
      neutral.say(f'Compiling {candidate} …', err=True)
      return worker.call('plan', candidate=vars(candidate), decode=decode)

    if chips.is_tpu:
      outcomes = search.search(workload, choices, compile_step, limit)
    else:
      outcomes = search.count_only(workload, choices)
    expected, problem = None, None
    if exact and outcomes[0].fits:
      expected, problem = _expected(worker, outcomes[0].candidate, decode)
  report = table.Report(workload, example_tokens, why, expected)
  neutral.say(report.text(outcomes))
  if write and outcomes[0].fits:
    with (
      files.naming_path_in_errors(write, name='--write'),
      files.replacing(write) as work,
    ):
      work.write_text(outcomes[0].candidate.gin(decode))
    neutral.say(f'\nWritten to {write}.')
  elif write:
    neutral.say(f'\nNothing is known to fit: {write} is not written.')
  if problem is not None:
    raise problem


def _expected(
  worker: 'child.Child', best: 'counting.Candidate', decode: bool
) -> tuple[Mapping[str, Any] | None, DataError | None]:
  """Returns what the compiler expects of a candidate, or why it can't say.

  The plan that was found before is worth a report either way.
  """
  neutral.say(f'Compiling {best} to its code …', err=True)
  try:
    found = worker.call('plan', candidate=vars(best), decode=decode, exact=True)
  except DataError as error:
    return None, error
  return found, None


def _check_place(path: str) -> None:
  """Raises a DataError if a file cannot be written, before any work is done.

  Args:
    path: of the file, which need not exist.
  """
  folder = os.path.dirname(os.path.abspath(path))
  if not os.path.isdir(folder):
    raise DataError(
      f'--write {path}: expected a file in a folder that exists, found no'
      f' folder {folder}. Make it, or correct the path.'
    )
  if not os.access(folder, os.W_OK):
    raise DataError(
      f'--write {path}: expected a folder that you may write in. Give another.'
    )


def _macros(context: click.Context) -> list[str]:
  """Returns the bindings of `--gin.NAME=VALUE`, the only other options."""
  bindings = []
  for argument in context.args:
    name, equals, value = argument.partition('=')
    if not name.startswith('--gin.') or not equals:
      raise click.NoSuchOption(argument.partition('=')[0], ctx=context)
    bindings.append(f'{name.removeprefix("--gin.")} = {value}')
  return bindings
