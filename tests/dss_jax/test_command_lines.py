"""Tests of commands as one types them."""

import subprocess

from hypothesis import example, given
from hypothesis import strategies as st

from dss_jax import command_lines

_TEXT = st.text(
  st.characters(exclude_categories=['Cs'], exclude_characters='\0')
)
_ARGV = [
  *('/x/t5x/train.py', '--gin_file=gin/dss_cqa.gin'),
  *('--gin_file=gin/sizes/base.gin', '--gin_file=my/rate.gin'),
  *("--gin.DATA='release'", '--gin.METHOD="dss"', '--gin.FRACTION=0.5'),
  *('--gin_bindings=LEARNING_RATE = 1e-3', "--gin.MODEL_DIR='runs/a'"),
]
_UNLABELED = [*_ARGV[:2], "--gin.LABELS='teacher'"]


# The second is too long for one line.
@example(['a b', "'", '\\\n', ''])
@example(['0000*'] * 12 + ['--00000', '--=\n'])
@given(st.lists(_TEXT, min_size=1))
def test_a_shell_reads_the_same_words(words):
  command = f"printf '%s\\0' {command_lines.typed(words)}"
  done = subprocess.run(
    ['sh', '-c', command], capture_output=True, check=True, timeout=60
  )
  assert done.stdout.decode() == ''.join(f'{word}\0' for word in words)


def test_few_quotes_are_written():
  assert command_lines.quoted("--gin.DATA='a b'") == '--gin.DATA="\'a b\'"'
  assert command_lines.quoted('--gin_file=a.gin') == '--gin_file=a.gin'


def test_the_other_method_keeps_the_flags():
  assert command_lines.with_method(_ARGV, 'finetune', 'runs/b') == [
    *('python', '-m', 't5x.train', '--gin_file=gin/dss_cqa.gin'),
    *('--gin_file=gin/sizes/base.gin', '--gin_file=my/rate.gin'),
    *("--gin.DATA='release'", '--gin.FRACTION=0.5'),
    *('--gin_bindings=LEARNING_RATE = 1e-3', "--gin.METHOD='finetune'"),
    "--gin.MODEL_DIR='runs/b'",
  ]
  assert command_lines.with_method(['/x/ipython'], 'dss', 'b') is None


def test_the_other_method_of_dss_train_is_dss_train():
  argv = ['/lib/t5x/train.py', '--gin_file=runs/a/run.gin']
  words = 'rows.jsonl --method=dss --column input=q --out runs/a --steps 3'
  expected = [
    *('dss', 'train', 'rows.jsonl', '--column', 'input=q', '--steps', '3'),
    *('--method', 'finetune', '--out', 'runs/b'),
  ]
  for begun in (['/bin/dss'], ['-m', 'dss_jax.cli']):
    original = ['/bin/python', *begun, 'train', *words.split()]
    found = command_lines.with_method(argv, 'finetune', 'runs/b', original)
    assert found == expected
  # A run of `t5x.train` itself.
  original = ['/bin/python', '-m', 't5x.train', *argv[1:]]
  found = command_lines.with_method(argv, 'finetune', 'runs/b', original)
  assert found and found[:3] == ['python', '-m', 't5x.train']


def test_a_study_has_the_flags_in_its_own_words():
  assert command_lines.study(_ARGV, 'cqa', 'release') == [
    *('dss', 'study', 'cqa', '--methods', 'finetune,dss', '--seeds', '5'),
    *('--sizes', 'base', '--gin_file=my/rate.gin', '--data', 'release'),
    *('--set', 'LEARNING_RATE=1e-3', '--out', 'studies/cqa'),
  ]


def test_a_study_has_the_labels_of_the_run():
  command = command_lines.study(_UNLABELED, 'cqa', 'sample', 'teacher')
  assert command[-4:-2] == ['--labels', 'teacher']


def test_a_study_of_own_rows_and_of_an_own_gin_file():
  argv = [
    *('t5x/train.py', '--gin_file=gin/dss_custom.gin'),
    "--gin.DATA='my_rows.jsonl'",
  ]
  assert command_lines.study(argv, 'custom', 'my_rows.jsonl') == [
    *('dss', 'study', 'my_rows.jsonl', '--methods', 'finetune,dss'),
    *('--seeds', '5', '--out', 'studies/custom'),
  ]
  argv = ['t5x/train.py', '--gin_file=mine.gin']
  assert command_lines.study(argv, 'svamp', 'sample')[2] == 'mine.gin'
  # Of a notebook's arguments nothing is known.
  assert command_lines.study(['x', '--gin_file=a'], 'cqa', 'sample')[2] == 'cqa'


def test_a_line_has_room_for_the_value_of_its_last_option():
  words = [
    *('dss', 'train', 'tickets.jsonl', '--column', 'input=ticket'),
    *('--steps', '600', '--test', 'tickets_test.csv', '--out', 'runs/a'),
  ]
  lines = command_lines.typed(words, '  ').splitlines()
  assert len(lines) == 2 and max(map(len, lines)) <= 80
  assert lines[1].split() == ['--test', 'tickets_test.csv', '--out', 'runs/a']
