"""Terminal tables of the findings of `inspection`."""

import textwrap
from collections.abc import Mapping, Sequence

import rich.console
from rich import box, table, text

from dss_jax import command_lines, neutral
from dss_jax.commands import inspection, unknown_text
from dss_jax.data import own_rows, places, records
from dss_jax.pipeline import experiment as experiment_lib
from dss_jax.pipeline import lengths, names, row_shapes

_PLACES = 10
_LABELS = 5
_TOKENS = 24
_WIDTH = 300


def show(
  experiment: experiment_lib.Experiment,
  found: inspection.Findings,
  console: rich.console.Console | None = None,
) -> None:
  """Prints all findings.

  Args:
    experiment: whose data.
    found: by `inspection.inspect`.
    console: where to print; None for standard output.
  """
  console = console or neutral.console()
  title = f'{experiment.data_set}: {names.train_name(experiment)}'
  console.rule(text.Text(title))
  if not isinstance(experiment.rows, own_rows.OwnData):
    console.print(
      _counts('In the files', found.released, experiment, outside=True)
    )
  drawn = {name: split.report for name, split in found.splits.items()}
  console.print(_counts('Drawn for training and evaluation', drawn, experiment))
  console.print(_lengths(found, experiment))
  own_vocabulary = experiment.vocabulary is not None
  kind = 'the vocabulary given' if own_vocabulary else "the sample's vocabulary"
  console.print(
    f'Tokens are those of {kind}, with the prefix and the end token.'
    + ('' if own_vocabulary else ' Give --vocabulary for those of a T5.'),
    soft_wrap=True,
  )
  for line in unknown_text.lines(found.unknown):
    console.print(text.Text(line, style='yellow'), soft_wrap=True)
  if warning := lengths.warning(found.cuts, found.lengths):
    console.print(text.Text(warning, style='yellow'), soft_wrap=True)
  console.print()
  if found.packed is not None:
    _show_shapes(console, found.packed, found.shapes)
  console.print(_labels(found))
  for (one, other), count in found.overlaps.items():
    console.print(
      f'{other} rows whose input is in {one} too: {count}',
      style='red' if count else '',
    )
  for name, split in found.splits.items():
    for kind, where in split.faults.items():
      fault = text.Text(f'{name}, {kind}: {_shortened(where)}')
      console.print(fault, soft_wrap=True)
  # What is piped elsewhere keeps its lines.
  width = console.width if console.is_terminal else None
  for task, examples in found.examples.items():
    console.print()
    console.print(text.Text(f'Task {task}', style='bold'))
    for number, example in enumerate(examples, 1):
      console.print(text.Text(_example(number, example, width)), soft_wrap=True)


def _table(title: str, *columns: str) -> table.Table:
  result = table.Table(title=title, box=box.SIMPLE_HEAD, title_justify='left')
  for column in columns:
    is_name = column in ('split', 'text')
    left = is_name or column == 'the most frequent'
    result.add_column(
      column, justify='left' if left else 'right', no_wrap=is_name
    )
  return result


def _percent(part: int, whole: int) -> str:
  return f'{100.0 * part / whole:.1f}%' if whole else '-'


def _counts(
  title: str,
  reports: Mapping[str, records.Report],
  experiment: experiment_lib.Experiment,
  outside: bool = False,
) -> table.Table:
  uses_teacher = experiment.uses_teacher
  result = _table(
    title, 'split', 'rows', 'inputs again',
    *(f'no {kind.title}' for kind in experiment.kinds), 'no teacher label',
    # A label, but none of the choices or classes, or no equation.
    *(['no such answer'] if outside else []),
    'teacher is right',
  )  # fmt: skip
  for name, report in reports.items():
    has_labels = uses_teacher and report.empty_labels < report.rows
    result.add_row(
      name,
      str(report.rows),
      str(report.duplicates),
      *_blank(report, experiment),
      str(report.empty_labels) if uses_teacher else '-',
      *([str(report.outside_labels) if has_labels else '-'] if outside else []),
      f'{100.0 * report.teacher_accuracy:.3f}%' if has_labels else '-',
    )
  return result


def _blank(
  report: records.Report, experiment: experiment_lib.Experiment
) -> list[str]:
  """Returns how many rows lack each kind of rationales."""
  kinds = experiment.kinds
  if not experiment.uses_teacher:
    return ['-'] * len(kinds)
  counts = report.without_rationale
  # Of the files, a report may be on one kind alone.
  return [
    str(counts[kind.number - 1]) if kind.number <= len(counts) else '-'
    for kind in kinds
  ]


def _lengths(
  found: inspection.Findings, experiment: experiment_lib.Experiment
) -> table.Table:
  titles = {kind.column: kind.title for kind in experiment.kinds}
  result = _table(
    'Lengths in tokens', 'split', 'text', 'cut at',
    *(f'{p}%' if p < 100 else 'max' for p in inspection.PERCENTILES),
    'rows cut', 'tokens cut',
  )  # fmt: skip
  for name, split in found.splits.items():
    for column, length in split.lengths.items():
      result.add_row(
        name,
        titles.get(column, column),
        str(length.limit or '-'),
        *map(str, length.percentiles),
        str(length.cut_rows) if length.limit else '-',
        _percent(length.cut_tokens, length.tokens) if length.limit else '-',
      )
  return result


def _show_shapes(
  console: rich.console.Console,
  packed: row_shapes.Fill,
  shapes: Sequence[row_shapes.Fill],
) -> None:
  result = _table(
    'Packed rows of the train split', 'inputs', 'targets',
    'inputs filled', 'targets filled', 'examples a row', '',
  )  # fmt: skip
  best = row_shapes.recommended([packed, *shapes])
  others = (each for each in shapes if each.row_shape != packed.row_shape)
  for tried in (packed, *others):
    marks = ['as given'] * (tried is packed) + ['best'] * (tried is best)
    result.add_row(
      *map(str, tried.row_shape),
      f'{100.0 * tried.encoder:.1f}%',
      f'{100.0 * tried.decoder:.1f}%',
      f'{tried.units_a_row:.1f}',
      ', '.join(marks),
    )
  console.print(result)
  length, targets = best.row_shape
  shape = {'inputs': length, 'targets': targets}
  option = command_lines.macro('TASK_FEATURE_LENGTHS', shape)
  console.print(text.Text(f'To train on them: {option}\n'), soft_wrap=True)


def _labels(found: inspection.Findings) -> table.Table:
  result = _table('Gold labels', 'split', 'different', 'the most frequent')
  for name, split in found.splits.items():
    rows = sum(count for _, count in split.labels)
    shown = [
      f'{_shown(label, 24)} {_percent(count, rows)}'
      for label, count in split.labels[:_LABELS]
    ]
    more = ', …' if len(split.labels) > _LABELS else ''
    # Brackets in labels are not markup.
    result.add_row(
      name, str(len(split.labels)), text.Text(', '.join(shown) + more)
    )
  return result


def _shortened(where: places.Places) -> str:
  """Joins places, naming each file once.

  >>> where = places.Places()
  >>> where.add('a.json', 'line', 9)
  >>> where.add('a.json', 'line', 3)
  >>> _shortened(where)
  'a.json, line 3, line 9'
  """
  return '; '.join(
    ', '.join([file, *(f'{word} {n}' for n in numbers[:_PLACES])])
    + (f' and {len(numbers) - _PLACES} more' if len(numbers) > _PLACES else '')
    for file, (word, numbers) in where.by_file().items()
  )


def _example(
  number: int, example: inspection.Example, width: int | None
) -> str:
  lines = []
  for name, tokens in example.tokens.items():
    ids = ' '.join(map(str, tokens[:_TOKENS]))
    more = ' …' if len(tokens) > _TOKENS else ''
    words = _shown(example.texts[name], _WIDTH)
    lines += _wrapped(f'{name}, {len(tokens)} tokens: {words}', '  ', width)
    lines += _wrapped(f'{ids}{more}', '    ', width)
  return f'{number}\n' + '\n'.join(lines)


def _wrapped(line: str, indent: str, width: int | None) -> list[str]:
  """Returns the lines of a text, broken between words."""
  if width is None:
    return [indent + line]
  return textwrap.wrap(
    line,
    width,
    initial_indent=indent,
    subsequent_indent=indent + '  ',
    break_on_hyphens=False,
  )


def _shown(words: str, width: int) -> str:
  return unknown_text.on_screen(textwrap.shorten(words, width))
