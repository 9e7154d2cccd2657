"""Reference of macros: value, meaning and file of each, read off the gin files.

Gin files are read as data, and a macro's meaning is the comment beside it or
directly above it. The page docs/macros.md is what `markdown` returns.
"""

import re
from collections.abc import Iterable, Sequence

from rich import box
from rich import table as rich_table
from rich import text as rich_text

from dss_jax import errors, neutral
from dss_jax.study import experiments
from t5x.cli import gin_reader

_SHARED = 'gin/dss.gin'
_OWN = 'gin/dss_custom.gin'
_HEADER = ('macro', 'value', 'meaning', 'set in')
_NAME = re.compile(r'[A-Z][A-Z0-9_]*')
# Files that are given after a run's own, and what they are for.
_AFTER = {
  'gin/dss_eval.gin': 'Evaluating a run again: `python -m t5x.eval`',
  'gin/dss_infer.gin': 'Asking a run: `python -m t5x.infer`',
  'gin/engine/remat.gin': 'Saving memory: `gin/engine/remat.gin`',
  'gin/engine/freeze.gin': 'Training a part: `gin/engine/freeze.gin`',
  'gin/engine/lora.gin': 'Low-rank adapters: `gin/engine/lora.gin`',
}
# Those that change values of the shared ones.
_CHANGES = (
  *(f'gin/dss_{name}.gin' for name in experiments.DATA_SETS),
  'gin/sizes/finetune.gin',
  'gin/paper/released.gin',
  'gin/adafactor.gin',
)
_INTRODUCTION = (
  '# Macros\n\n'
  'What can be set of a run, with the value that holds unless something else is'
  ' said. Set one with\n`--set NAME=VALUE` of `dss train`, with'
  ' `--gin.NAME=VALUE` of `python -m t5x.train`, or by a line\n`NAME = VALUE`'
  ' in a gin file of your own. `dss options` shows them in a terminal:\n`dss'
  ' options cqa --size base` with the values of that run, `--search WORD` those'
  ' that a word is\nabout.\n\nThis page is written by'
  ' `dss options --markdown`.\n'
)


def macros(
  experiment: str | None, size: str | None = None
) -> list[gin_reader.Macro]:
  """Returns the macros of an experiment, in the order of its files.

  Args:
    experiment: a data set, 'custom', or a gin file; None for what all share.
    size: a file of gin/sizes, without its ending; None for the experiment's.

  Raises:
    DataError: there is no such experiment.
  """
  files = list(_files(experiment))
  if size is not None:
    files.append(f'gin/sizes/{size}.gin')
  return _named(gin_reader.read(files).macros.values())


def _files(experiment: str | None) -> Sequence[str]:
  if experiment is None:
    return (_SHARED,)
  if experiment == 'custom':
    return (_OWN,)
  known = (*experiments.DATA_SETS, 'custom')
  is_file = experiment.endswith('.gin')
  if experiment not in known and not is_file:
    raise errors.DataError(
      f'{experiment!r}: expected one of {", ".join(known)}, or a gin file.'
      f'{errors.did_you_mean(experiment, known)} A word of a macro is looked'
      ' for with --search.'
    )
  if is_file and gin_reader.find(experiment) is None:
    raise errors.DataError(f'{experiment}: there is no gin file of this name.')
  return experiments.find(experiment).gin_files


def _named(found: Iterable[gin_reader.Macro]) -> list[gin_reader.Macro]:
  return [macro for macro in found if _NAME.fullmatch(macro.name)]


def search(
  found: Sequence[gin_reader.Macro], word: str
) -> list[gin_reader.Macro]:
  """Returns the macros that a word is in the name or the meaning of.

  Args:
    found: macros.
    word: in any case.
  """
  wanted = word.casefold()
  return [
    macro
    for macro in found
    if wanted in macro.name.casefold() or wanted in macro.meaning.casefold()
  ]


def table(found: Sequence[gin_reader.Macro]) -> rich_table.Table:
  """Returns macros as a table for a terminal.

  Args:
    found: macros.
  """
  result = rich_table.Table(box=box.SIMPLE_HEAD, pad_edge=False)
  for name in _HEADER[:3]:
    result.add_column(name, no_wrap=name == 'macro', overflow='fold')
  for macro in found:
    about = rich_text.Text(neutral.line(macro.meaning))
    about.append(f'  {macro.file}', style='dim')
    result.add_row(
      neutral.line(macro.name),
      rich_text.Text(neutral.line(repr(macro.value)), style='cyan'),
      about,
    )
  return result


def markdown() -> str:
  """Returns the page of all macros."""
  shared = macros(None)
  parts = [
    _INTRODUCTION,
    _section('All experiments', shared),
    _section(
      'Rows of your own: `gin/dss_custom.gin`',
      _beyond(macros('custom'), shared),
    ),
  ]
  for file, title in _AFTER.items():
    parts.append(_section(title, _named(_own(file))))
  parts.append(
    '## Values of data sets and sizes\n\nWhat these files change; the sizes'
    ' other than `tiny` include `gin/sizes/finetune.gin`.\n'
  )
  rows = [
    (f'`{macro.file}`', f'`{macro.name}`', _code(macro.value))
    for file in _CHANGES
    for macro in _named(_own(file))
  ]
  parts.append(_markdown_table(('file', 'macro', 'value'), rows))
  return '\n'.join(parts)


def _own(file: str) -> list[gin_reader.Macro]:
  """Returns the macros that a file sets itself, not by an include."""
  found = gin_reader.read([file]).macros.values()
  return [macro for macro in found if macro.file == file]


def _beyond(
  found: Sequence[gin_reader.Macro], shared: Sequence[gin_reader.Macro]
) -> list[gin_reader.Macro]:
  """Returns the macros with a value or a name that the shared ones lack."""
  values = {macro.name: macro.value for macro in shared}
  return [
    macro
    for macro in found
    if macro.name not in values or values[macro.name] != macro.value
  ]


def _section(title: str, found: Sequence[gin_reader.Macro]) -> str:
  rows = [
    (f'`{m.name}`', _code(m.value), _cell(m.meaning), f'`{m.file}`')
    for m in found
  ]
  return f'## {title}\n\n{_markdown_table(_HEADER, rows)}'


def _code(value: object) -> str:
  return _cell(f'`{value!r}`')


def _cell(text: str) -> str:
  # Quotes and names in a meaning are what a gin file has.
  return text.replace('|', '\\|')


def _markdown_table(
  header: Sequence[str], rows: Sequence[Sequence[str]]
) -> str:
  """Returns a table as mdformat writes it."""
  lines = (header, ['--'] * len(header), *rows)
  return ''.join(f'| {" | ".join(cells)} |\n' for cells in lines)
