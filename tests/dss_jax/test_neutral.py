"""Tests of `neutral`, and that what shows foreign text takes it from there."""

import ast
import doctest
import io
import pathlib
import unicodedata

import hypothesis
import pytest
import rich.panel
import rich.progress
import rich.table
import rich.text
from hypothesis import strategies as st

from dss_jax import neutral
from t5x import neutral as engine

_ROOT = pathlib.Path(__file__).parents[2]
_HOSTILE = (
  '[/red] [bold]b[/] [link=file:///etc]l[/link] :smile: '
  '\x1b[2J\x1b]0;title\x07\x9b31m\x08\x7f\u202egnp.exe\u2066\u2028end\ud800'
)


def test_the_examples_in_the_docstrings_hold():
  result = doctest.testmod(neutral)
  assert result.attempted and not result.failed


@hypothesis.given(
  st.text(st.characters(exclude_categories=()), max_size=60)
  | st.sampled_from(['http://a:b@c/d?key=e', _HOSTILE])
)
def test_the_engine_s_own_part_says_the_same(text):
  for name in ('text', 'message', 'without_logins'):
    assert getattr(engine, name)(text) == getattr(neutral, name)(text)
  shown = []
  for module in (engine, neutral):
    file = io.StringIO()
    module.console(file=file, width=40).print(text)
    shown.append(file.getvalue())
  assert shown[0] == shown[1]


def _is_harmless(text, more=''):
  return all(
    c in more
    or c in '\u200c\u200d'
    or unicodedata.category(c) not in ('Cc', 'Cf', 'Cs', 'Zl', 'Zp')
    for c in text
  )


@hypothesis.given(
  st.text(st.characters(exclude_categories=()), max_size=60),
  st.integers(1, 30),
)
def test_any_text_is_harmless_and_encodable(text, most):
  assert _is_harmless(neutral.text(text), '\n\t')
  assert _is_harmless(neutral.line(text, most))
  assert len(neutral.line(text, most)) <= most + 1
  neutral.text(text).encode()
  neutral.line(text).encode()
  neutral.unicode(text).encode()
  assert '<' not in neutral.markup(text) and '"' not in neutral.markup(text)
  cell = neutral.cell(text)
  assert _is_harmless(cell, '\n\t')
  if cell.lstrip(' ').startswith(('=', '@', '\t', '\n')):
    raise AssertionError(cell)


@pytest.mark.parametrize(
  ('value', 'cell'),
  [
    ('=cmd|"/c calc"!A1', '\'=cmd|"/c calc"!A1'),
    ('+1+2', "'+1+2"),
    ('-2', '-2'),
    ('@SUM(A1)', "'@SUM(A1)"),
    (' =1+1', "' =1+1"),
    ('(8 - 2) * 3', '(8 - 2) * 3'),
    (3, 3),
    (None, None),
  ],
)
def test_a_table_file_has_no_formula_of_others(value, cell):
  assert neutral.cell(value) == cell


def test_words_of_all_scripts_stay():
  for text in ('naïve café', 'می\u200cخواهم', '日本語', '👩\u200d🔬', 'a\n\tb'):
    assert neutral.text(text) == text
  assert neutral.text('a\xa0b\u3000c') == 'a b c'


def test_a_console_shows_everything_and_does_nothing():
  file = io.StringIO()
  console = neutral.console(file=file, width=400, force_terminal=False)
  table = rich.table.Table(title=_HOSTILE)
  table.add_column(_HOSTILE)
  table.add_row(_HOSTILE)
  bar = rich.progress.Progress(
    rich.progress.TextColumn('{task.description}', markup=False),
    console=console,
  )
  bar.add_task(_HOSTILE)
  title = rich.text.Text(_HOSTILE)
  for shown in (table, _HOSTILE, rich.panel.Panel(_HOSTILE, title=title), bar):
    console.print(shown)
  console.rule(_HOSTILE)
  found = file.getvalue()
  assert _is_harmless(found, '\n')
  assert found.count('[/red] [bold]b[/]') >= 6 and ':smile:' in found


def test_a_console_still_styles_what_is_ours():
  file = io.StringIO()
  console = neutral.console(
    file=file, force_terminal=True, color_system='standard'
  )
  console.print(rich.text.Text('a\x1b[2J', style='red'))
  assert file.getvalue() == '\x1b[31ma\ufffd[2J\x1b[0m\n'


# What shows foreign text takes it from `neutral`.


def _calls(tree):
  for node in ast.walk(tree):
    if isinstance(node, ast.Call):
      yield node, ast.unparse(node.func).split('.')


def _keywords(call):
  return {word.arg: ast.unparse(word.value) for word in call.keywords}


def found_in(text):
  """Returns the lines that show foreign text in another way, and why."""
  found = []
  for call, name in _calls(ast.parse(text)):
    words = _keywords(call)
    fixed = all(isinstance(argument, ast.Constant) for argument in call.args)
    if name[-1] == 'Console':
      why = 'makes a console of its own'
    elif name[-1] in ('from_markup', 'from_ansi') or 'markup=True' in (
      f'{key}={value}' for key, value in words.items()
    ):
      why = 'takes markup'
    elif name[-1] == 'TextColumn' and words.get('markup') != 'False':
      why = 'is a column that takes markup'
    elif name[-1] == 'Panel' and _is_foreign_title(call):
      why = 'is a panel whose title takes markup'
    elif name in (['rich', 'print'], ['click', 'secho']) or (
      name in (['print'], ['click', 'echo']) and not fixed
    ):
      why = 'prints past it'
    elif name[-1] in ('writer', 'DictWriter') and name[0] == 'csv':
      why = '' if 'neutral.cell(' in text else 'writes cells past it'
    else:
      continue
    if why:
      found.append(f'line {call.lineno} {why}: {ast.unparse(call)[:60]}')
  return found


def _is_foreign_title(call):
  """Whether a title is a text with more than numbers of ours in it."""
  for word in call.keywords:
    if word.arg in ('title', 'subtitle'):
      value = ast.unparse(word.value)
      return not isinstance(word.value, ast.Constant) and 'Text(' not in value
  return False


@pytest.mark.parametrize(
  ('text', 'count'),
  [
    ('rich.console.Console()', 1),
    ('neutral.console(soft_wrap=True)', 0),
    ('progress.TextColumn("{task.description}")', 1),
    ('progress.TextColumn("a", markup=False)', 0),
    ('console.print(f"{x}", markup=True)', 1),
    ('text.Text.from_markup(x)', 1),
    ('panel.Panel(x, title=f"{x}")', 1),
    ('panel.Panel(x, title=text.Text(x))', 0),
    ('print(f"{x}")', 1),
    ('click.echo(x)', 1),
    ('print("Done.")', 0),
    ('click.secho(x)', 1),
    ('csv.writer(file)', 1),
    ('csv.writer(file); neutral.cell(x)', 0),
  ],
)
def test_a_place_that_shows_foreign_text_otherwise_is_found(text, count):
  assert len(found_in(text)) == count


_PATHS = [
  path.relative_to(_ROOT).as_posix()
  for name in ('dss_jax', 't5x', 'tasks')
  for path in sorted((_ROOT / name).rglob('*.py'))
]
# Our own words alone: the flags' help, numbers, the names of packaged files.
_EXCEPT = (
  't5x/neutral.py',
  'dss_jax/neutral.py',
  't5x/cli/flags.py',
  't5x/distributed.py',
  'dss_jax/sample/files.py',
  'dss_jax/sample/vocabulary.py',
)


def test_every_place_that_shows_foreign_text_takes_it_from_here():
  found = [
    f'{path}, {why}'
    for path in _PATHS
    if path not in _EXCEPT
    for why in found_in((_ROOT / path).read_text(encoding='utf-8'))
  ]
  assert not found, '\n'.join(found)
