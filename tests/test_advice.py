"""Every command that a program prints as advice is one that it understands."""

import ast
import pathlib
import re

import click
import pytest

from dss_jax import cli, command_lines
from tests import advice

_ROOT = pathlib.Path(__file__).parent.parent
# A command with an option or a file, which must be quoted.
_COMMAND = re.compile(
  r'(?<![`\w])(?:python -m (?:t5x|dss_jax)[.\w]* --'
  r'|dss (?:data \w+|\w+) [^\s`]*[\w/.\'"-]+ --|tensorboard --\w+=.)'
)
_ROWS = 'it\'s my rows/50% "new" $HOME.jsonl'
_RUNS = [
  ['--gin_file=gin/dss_cqa.gin', "--gin.METHOD='finetune'", '--gin.ALPHA=0.5'],
  ['--gin_file=gin/dss_cqa.gin', '--gin_file=gin/sizes/flan_t5/base.gin',
   "--gin.DATA='release'", '--gin_bindings=LEARNING_RATE = 1e-3',
   '--gin.t5x.examples.t5.network.T5Config.dropout_rate=0.2',
   '--gin.FRACTION=0.5'],
  ['--gin_file=gin/dss_custom.gin', f'--gin.DATA={_ROWS!r}',
   "--gin.COLUMNS={'input': 'a b', 'rationale': ('x', 'y')}",
   "--gin.CLASSES=['yes', 'no']", "--gin.LABELS='teacher'",
   "--gin.TEST='gold.csv'", '--gin.TASK_FEATURE_LENGTHS='
   "{'inputs': 120, 'targets': 80}"],
]  # fmt: skip


@pytest.mark.parametrize('flags', _RUNS, ids=['method', 'release', 'own'])
def test_what_a_run_recommends_is_understood(flags):
  argv = ['/x/t5x/train.py', *flags]
  own = 'custom' in flags[0]
  data_set, data = ('custom', _ROWS) if own else ('cqa', 'sample')
  for command in (
    command_lines.with_method(argv, 'dss', "runs/it's"),
    command_lines.study(argv, data_set, data, 'teacher' if own else 'gold'),
  ):
    for one_line in (False, True):
      typed = command_lines.typed(command, one_line=one_line)
      assert advice.commands(typed) == [typed]
      assert advice.words(typed) == command
      advice.parse(typed)


@pytest.mark.parametrize(
  ('what', 'options'),
  [
    ('cqa', {'teacher': 'mine', 'data': "it's here", 'EVAL_RATIONALES': False}),
    (_ROWS, {'labels': 'teacher', 'BY_VALUE': True}),
  ],
)
def test_what_an_extraction_recommends_is_understood(what, options):
  command = command_lines.dss_train(what, 'runs/a b', options)
  typed = command_lines.typed(command)
  assert advice.commands(typed) == [typed] and advice.words(typed) == command
  advice.parse(typed)


def test_the_help_of_every_command_shows_commands_that_work():
  group = cli.dss
  context = click.Context(group)
  found = []
  for name in group.list_commands(context):
    command = group.get_command(context, name)
    for one in (command, *getattr(command, 'commands', {}).values()):
      text = one.get_help(click.Context(one, info_name=one.name))
      assert '\\b' not in text, f'dss {name} --help: a break that is none'
      found += advice.commands(re.sub(r'^Usage: .*$', '', text, flags=re.M))
  assert len(found) >= 5
  for text in found:
    advice.parse(text)


def test_a_command_that_nobody_understands_is_found():
  for command in (
    'dss study cqa --method dss',
    'dss studdy cqa',
    'python -m t5x.train --gin_file=gin/dss_cqa.gin --gin.METHDO=dss',
    'python -m t5x.train --gin_file=gin/dss_cqa.gin --gin.METHOD=dssa',
    'python -m t5x.train --gin_files=gin/dss_cqa.gin',
    'python -m t5x.train --gin_file=gin/dss_cqa.gin left',
    'ls',
  ):
    # Of the programs' own: a click, absl, gin, data or assertion error.
    with pytest.raises(Exception):  # noqa: B017
      advice.parse(command)


def _texts(tree):
  """Yields (line, text) of all string constants but docstrings."""
  documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
  skipped = {
    id(node.body[0].value)
    for node in ast.walk(tree)
    if isinstance(node, documented)
    and node.body
    and isinstance(node.body[0], ast.Expr)
  }
  for node in ast.walk(tree):
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    if is_text and id(node) not in skipped:
      yield node.lineno, node.value


def test_commands_are_composed_in_one_place():
  found = [
    f'{path.relative_to(_ROOT)}:{line}: {text[:80]!r}'
    for package in ('dss_jax', 't5x')
    for path in sorted((_ROOT / package).rglob('*.py'))
    if path.name != 'command_lines.py'
    for line, text in _texts(ast.parse(path.read_text()))
    if _COMMAND.search(text)
  ]
  assert not found, (
    'Make commands that are printed with dss_jax/command_lines.py:\n'
    + '\n'.join(found)
  )


def test_a_command_in_a_text_would_be_found():
  for text in (
    'python -m t5x.train --gin_file=',
    'run: dss extract rows.jsonl --prompt',
    'tensorboard --logdir=runs',
  ):
    assert _COMMAND.search(text)
  assert not _COMMAND.search('the command `dss extract … --dry-run` of dss')
