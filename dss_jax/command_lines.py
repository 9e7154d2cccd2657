"""Command lines that programs print as advice, as one types them.

Every one is made here, as words, and shown by `typed`, which quotes them: what
is printed runs as printed. tests/test_advice.py reads them as a shell and the
programs do.
"""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

# Bindings that another run of a comparison has of its own.
_OWN = ('METHOD', 'MODEL_DIR')
# Bindings that `dss study` makes itself, or has an option for.
_STUDY = (*_OWN, 'RANDOM_SEED', 'FRACTION', 'LABELS', 'SHUFFLE_RATIONALES')
# Of a line, less its indent and the backslash at its end.
_COLUMNS = 74
# In double quotes, a shell would look at these.
_SPECIAL = frozenset('"$`\\!')


def quoted(argument: str) -> str:
  r"""Returns an argument in the quotes that a shell needs, which are few.

  >>> quoted("--gin.DATA='release'")
  '--gin.DATA="\'release\'"'

  Args:
    argument: of a command.
  """
  option = re.match(r'--[\w./]+=', argument)
  if option and option.end() < len(argument):
    return f'{option[0]}{quoted(argument[option.end() :])}'
  if "'" in argument and not _SPECIAL.intersection(argument):
    return f'"{argument}"'
  return shlex.quote(argument)


def typed(
  arguments: Sequence[str], indent: str = '', one_line: bool = False
) -> str:
  """Returns a command as one types it, with a line for every two options.

  Args:
    arguments: the command's words.
    indent: before every line.
    one_line: whether it stays on one line, as within a sentence.
  """
  if one_line:
    return indent + ' '.join(map(quoted, arguments))
  lines: list[list[str]] = [[]]
  shown = [quoted(argument) for argument in arguments]
  for at, argument in enumerate(shown):
    # An option and its value are on one line.
    value = [v for v in shown[at + 1 : at + 2] if not v.startswith('--')]
    whole = ' '.join([*lines[-1], argument, *value])
    if argument.startswith('--') and len(whole) > _COLUMNS:
      lines.append([])
    lines[-1].append(argument)
  joined = f' \\\n{indent}    '.join(' '.join(line) for line in lines if line)
  return f'{indent}{joined}'


def macro(name: str, value: Any) -> str:
  r"""Returns the option that sets a macro, as one types it.

  >>> macro('TASK_FEATURE_LENGTHS', {'inputs': 8})
  '--gin.TASK_FEATURE_LENGTHS="{\'inputs\': 8}"'

  Args:
    name: of the macro.
    value: as Python has it.
  """
  return quoted(_set(name, value))


def _set(name: str, value: Any) -> str:
  return f'--gin.{name}={value!r}'


def dss_train(what: str, out: str, options: Mapping[str, Any]) -> list[str]:
  """Returns the command `dss train`.

  >>> ' '.join(dss_train('cqa', 'runs/a', {'labels': 'teacher', 'KEEP': 1}))
  'dss train cqa --labels teacher --set KEEP=1 --out runs/a'

  Args:
    what: a data set, or rows.
    out: the run's folder.
    options: its options by name, and macros, which are in capitals.
  """
  given = []
  for name, value in options.items():
    if name.isupper():
      given += ['--set', f'{name}={value}']
    else:
      given += [f'--{name}', str(value)]
  return ['dss', 'train', what, *given, '--out', out]


def train(gin_files: Sequence[str], macros: Mapping[str, Any]) -> list[str]:
  """Returns the command of a run.

  Args:
    gin_files: of the run.
    macros: by name, each value as Python has it.
  """
  return [
    *('python', '-m', 't5x.train'),
    *(f'--gin_file={path}' for path in gin_files),
    *(_set(name, value) for name, value in macros.items()),
  ]


def _binding(argument: str) -> tuple[str, str] | None:
  """Returns name and value of `--gin.NAME=VALUE`, in both its forms."""
  found = re.fullmatch(
    r'--(?:gin\.|gin_bindings=)([\w./]+?)\s*=\s*(.*)', argument, re.DOTALL
  )
  return (found[1], found[2]) if found else None


def _is_training(argv: Sequence[str]) -> bool:
  """Whether a process was started as `python -m t5x.train`, or t5x.main."""
  folder, name = os.path.split(argv[0]) if argv else ('', '')
  return os.path.basename(folder) == 't5x' and name in ('train.py', 'main.py')


def started(argv: Sequence[str]) -> list[str]:
  """Returns the command that a process was started by, as one types it.

  >>> started(['/lib/t5x/train.py', '--gin_file=a.gin'])
  ['python', '-m', 't5x.train', '--gin_file=a.gin']
  >>> started(['/bin/dss', 'train', 'cqa'])
  ['dss', 'train', 'cqa']

  Args:
    argv: `sys.argv` of the process.
  """
  if not argv:
    return []
  name = os.path.basename(argv[0])
  if _is_training(argv):
    return ['python', '-m', f't5x.{name.removesuffix(".py")}', *argv[1:]]
  if name.endswith('.py'):
    return ['python', *argv]
  return [name, *argv[1:]]


def _words_of_dss_train(original: Sequence[str]) -> list[str] | None:
  """Returns what stands after `dss train`; None for another command."""
  for at, word in enumerate(original[:-1]):
    is_module = word == 'dss_jax.cli' and original[at - 1] == '-m'
    is_dss = os.path.basename(word) == 'dss' or is_module
    if is_dss and original[at + 1] == 'train':
      return list(original[at + 2 :])
  return None


def _without(words: Sequence[str], options: Sequence[str]) -> list[str]:
  """Returns words without options that have a value each."""
  kept: list[str] = []
  left = iter(words)
  for word in left:
    if word in options:
      next(left, None)
    elif word.partition('=')[0] not in options:
      kept.append(word)
  return kept


def with_method(
  argv: Sequence[str],
  method: str,
  model_dir: str,
  original: Sequence[str] = (),
) -> list[str] | None:
  """Returns the command of the same run with another method.

  Args:
    argv: `sys.argv` of the run.
    method: METHOD of the other one.
    model_dir: its folder.
    original: `sys.orig_argv` of the run, which `dss train` may have begun.

  Returns:
    The command's words; None if the run was started in another way, as in a
    notebook.
  """
  if not _is_training(argv):
    return None
  words = _words_of_dss_train(original)
  if words is not None:
    kept = _without(words, ('--method', '--out'))
    return ['dss', 'train', *kept, '--method', method, '--out', model_dir]
  module = os.path.basename(argv[0]).removesuffix('.py')
  kept = [
    argument
    for argument in argv[1:]
    if (_binding(argument) or ('', ''))[0] not in _OWN
  ]
  return [
    *('python', '-m', f't5x.{module}', *kept),
    *(_set('METHOD', method), _set('MODEL_DIR', model_dir)),
  ]


def study(
  argv: Sequence[str], data_set: str, data: str, labels: str = 'gold'
) -> list[str]:
  """Returns the command `dss study` that compares methods on a run's terms.

  Args:
    argv: `sys.argv` of the run; of another program, nothing is taken from it.
    data_set: of the run.
    data: of the run: 'sample', 'release' or a path.
    labels: of the run, whoever has set them.
  """
  arguments = argv[1:] if _is_training(argv) else []
  files = [
    a.removeprefix('--gin_file=') for a in arguments if '--gin_file=' in a
  ]
  experiment, sizes, others, options = data_set, [], [], []
  if data_set == 'custom':
    experiment = data
  for path in files:
    size = re.fullmatch(r'gin/sizes/(.+)\.gin', path)
    packaged = re.fullmatch(r'gin/dss_\w+\.gin', path)
    if size:
      sizes = [size[1]]
    elif path == files[0] and not packaged:
      experiment = path
    elif not packaged:
      others.append(f'--gin_file={path}')
  for name, value in filter(None, map(_binding, arguments)):
    if name == 'DATA' and data_set == 'custom':
      continue
    if name == 'DATA':
      options += ['--data', value.strip('\'"')]
    elif name not in _STUDY:
      options += ['--set', f'{name}={value}']
  return [
    *('dss', 'study', experiment, '--methods', 'finetune,dss'),
    *('--seeds', '5', *(['--sizes', *sizes] if sizes else [])),
    *(*others, *options),
    *(['--labels', labels] if labels != 'gold' else []),
    *('--out', f'studies/{data_set}'),
  ]
