"""The command `dss ask`: a finished student answers.

  dss ask runs/tickets "The printer jams."
  dss ask runs/tickets --file new.csv --out answers.csv

The first form shows the label, each class's probability where classes are few,
and the rationale. The second answers any number of rows; after a kill the same
command goes on.
"""

import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dss_jax import neutral
from dss_jax.errors import DataError

if TYPE_CHECKING:
  from dss_jax.student import answer_files, answering

# Characters of a text and an answer in a list of them.
_WIDTH = 60


@click.command()
@click.argument('run')
@click.argument('texts', nargs=-1)
@click.option(
  '--file',
  'rows',
  metavar='FILE',
  help='Rows to answer: CSV, TSV, JSON lines, Parquet, text; a folder or glob.',
)
@click.option(
  '--out',
  type=click.Path(dir_okay=False),
  help='Where the answers to FILE go: .csv, .tsv, .jsonl or .parquet.',
)
@click.option(
  '--column',
  help='What FILE calls the texts.  [default: as in training, or input]',
)
@click.option(
  '--step',
  type=click.IntRange(0),
  help='Which checkpoint of the run.  [default: the last]',
)
@click.option(
  '--explain/--no-explain',
  default=None,
  help='Whether to ask for rationales.  [default: for texts, not for FILE]',
)
@click.option(
  '--kind',
  'kinds',
  multiple=True,
  metavar='NAME',
  help='A kind of rationales to ask for; repeatable.  [default: all]',
)
@click.option(
  '--probabilities/--no-probabilities',
  default=None,
  help='Whether to weigh each class.  [default: for texts, not for FILE; takes'
  ' about as long as labels for every class]',
)
@click.option(
  '--class',
  'classes',
  multiple=True,
  metavar='LABEL',
  help='A possible label; repeatable.  [default: those that the run knows]',
)
@click.option(
  '--batch-size',
  type=click.IntRange(1),
  help="Texts that are answered together.  [default: the run's]",
)
@click.option(
  '--allow',
  multiple=True,
  metavar='MODULE',
  help='A module of your own whose model the run has, such as'
  ' my_project.models; repeatable. Its code is run.',
)
def ask(
  run: str,
  texts: Sequence[str],
  rows: str | None,
  out: str | None,
  column: str | None,
  step: int | None,
  explain: bool | None,
  kinds: Sequence[str],
  probabilities: bool | None,
  classes: Sequence[str],
  batch_size: int | None,
  allow: Sequence[str],
) -> None:
  """Asks a finished student about texts, or about the rows of a file.

  RUN is the folder of a run or one of its checkpoints, or a folder that `dss
  export` wrote. The answers are those of t5x.infer with the run's
  configuration, of which no code is run.

  \b
  Examples:
    dss ask runs/tickets "The printer jams."
    dss ask runs/tickets --file new.csv --out answers.csv --explain
  """  # noqa: D301
  if bool(texts) == bool(rows) or bool(rows) != bool(out):
    raise DataError(
      f'dss ask: expected texts, or --file with --out; found {len(texts)}'
      f' texts, --file={rows} and --out={out}. For example: dss ask'
      f' {neutral.line(run)} "some text".'
    )
  if rows and out:
    from dss_jax.student import tables

    tables.check_ending(out)
  neutral.say(f'Loading {run} …', err=True)
  from dss_jax.student import loading

  student = loading.load(
    run,
    step,
    batch_size=batch_size or (len(texts) if texts else None),
    classes=classes or None,
    allow=allow,
  )
  if kinds and explain is False:
    raise DataError(
      '--kind and --no-explain: expected one of them, found both. Leave one'
      ' out.'
    )
  explain = bool(kinds) or explain
  if explain:
    student.check_explains()
  for kind in kinds:
    student.check_explains(kind)
  asked = tuple(dict.fromkeys(kinds)) or student.kinds
  if probabilities:
    student.weighed_classes()
  if rows and out:
    from dss_jax.student import answer_files

    options = answer_files.Options(
      bool(explain),
      bool(probabilities),
      asked if explain and len(student.kinds) > 1 else (),
    )
    _answer_file(student, rows, out, column, options)
  else:
    can_weigh = bool(student.classes) and student.method != 'single_task'
    _show(
      student,
      texts,
      (asked or (None,))
      if (student.usage.explains if explain is None else explain)
      else (),
      can_weigh if probabilities is None else probabilities,
    )


def _show(
  student: 'answering.Student',
  texts: Sequence[str],
  kinds: Sequence[str | None],
  probabilities: bool,
) -> None:
  """Prints the answers to texts, with rationales of some kinds."""
  weighed: Sequence[dict[str, float]] = [{} for _ in texts]
  if probabilities:
    answers = student.predict(texts, probabilities=True)
    labels = [answer.label for answer in answers]
    weighed = [answer.probabilities for answer in answers]
  else:
    labels = student.predict(texts)
  rationales = {
    (kind if len(student.kinds) > 1 else None) or 'rationale': student.explain(
      texts, kind
    )
    for kind in kinds
  }
  for i, text in enumerate(texts):
    neutral.say(neutral.line(text))
    neutral.say(f'  label      {neutral.line(labels[i]) or "(none)"}')
    by_weight = sorted(weighed[i].items(), key=lambda pair: -pair[1])
    for name, part in by_weight:
      neutral.say(f'    {100 * part:5.1f}%  {neutral.line(name)}')
    for title, written in rationales.items():
      begin = f'  {title:<9}  '
      shown = neutral.line(written[i], 2000)
      neutral.say(_wrapped(begin + shown, len(begin)))


def _wrapped(line: str, indent: int) -> str:
  """Returns a line of an answer as a terminal has room for it."""
  if not sys.stdout.isatty():
    return line
  return textwrap.fill(
    line,
    shutil.get_terminal_size().columns,
    subsequent_indent=' ' * indent,
    break_on_hyphens=False,
  )


def _answer_file(
  student: 'answering.Student',
  location: str,
  out: str,
  column: str | None,
  options: 'answer_files.Options',
) -> None:
  """Answers the rows of a file, and says what came out."""
  from dss_jax.student import answer_files, row_inputs

  # `dss train` calls it so.
  column = column.removeprefix('input=') if column else None
  rows = row_inputs.RowInputs(location, student.usage, column)
  done = answer_files.answer(student, rows, out, options)
  if done.before:
    neutral.say(f'{done.before:,} rows were answered before.')
  if done.cut:
    neutral.say(
      f'{done.cut:,} of {done.rows - done.before:,} inputs have more tokens'
      f' than the student reads ({student.usage.inputs}): the rest is not read.'
    )
  now = done.rows - done.before
  rate = f', {now / done.seconds:,.1f} a second' if now and done.seconds else ''
  neutral.say(f'{done.rows:,} answers are in {out}{rate}. The first:')
  for row in done.first:
    text = neutral.line(rows.text(row, out), _WIDTH)
    label = neutral.line(row[answer_files.LABEL], _WIDTH)
    neutral.say(f'  {text}  ->  {label or "(none)"}')
