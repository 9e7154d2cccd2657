"""What `--help` prints: purpose, flags by group, examples."""

import re
import textwrap
from collections.abc import Mapping, Sequence

from absl import flags

HELP_FLAGS = ('--help', '-help', '-h', '--helpshort')

_WIDTH = 80
_INDENT = ' ' * 6

# Group to flags; all of them are defined in `flags`.
_GROUPS: Mapping[str, Sequence[str]] = {
  'What to run': (
    'gin_file',
    'gin_bindings',
    'gin_search_paths',
    'run_mode',
    'dry_run',
  ),
  'Data': ('tfds_data_dir', 'seqio_additional_cache_dirs'),
  'Several processes': (
    'multiprocess_gpu',
    'coordinator_address',
    'process_count',
    'process_index',
  ),
}
_VALUES = {
  'gin_file': 'FILE',
  'gin_bindings': "'NAME = VALUE'",
  'gin_search_paths': 'DIR,…',
  'run_mode': 'train|eval|infer|precompile',
  'tfds_data_dir': 'DIR',
  'seqio_additional_cache_dirs': 'DIR,…',
  'coordinator_address': 'HOST:PORT',
  'process_count': 'N',
  'process_index': 'I',
}
_MACRO = (
  'Sets a macro of the gin files, such as --gin.TRAIN_STEPS=500; strings have'
  ' quotes of their own: --gin.MODEL_DIR="\'runs/mine\'". Repeatable. Each'
  " file's first lines list its macros, --dry_run shows their values."
)

_PURPOSES = {
  'train': (
    'Trains a model on a SeqIO task or mixture, from its last checkpoint on if'
    ' there is one, with evaluation on the way.'
  ),
  'eval': (
    'Evaluates one checkpoint of a run, or all of them, with the metrics of a'
    ' SeqIO task or mixture. Leaves metrics, and JSON lines with inputs,'
    ' targets and predictions, in <output folder>/inference_eval.'
  ),
  'infer': (
    'Predicts or scores a SeqIO task or mixture and writes one JSON line for'
    ' each example. The same command goes on after a kill.'
  ),
  'precompile': (
    'Compiles the training step of a run without training. Shows whether it'
    ' fits the devices, and fills JAX_COMPILATION_CACHE_DIR.'
  ),
  'main': 'Trains, evaluates, infers or compiles: what --run_mode says.',
}

# Mode to pairs of what an example does and its command.
_EXAMPLES: Mapping[str, Sequence[tuple[str, str]]] = {
  'train': (
    (
      'Distilling step by step, the packaged sample, on any machine',
      'python -m t5x.train --gin_file=gin/dss_cqa.gin',
    ),
    (
      'The same for 500 steps, in a folder of its own',
      'python -m t5x.train --gin_file=gin/dss_cqa.gin \\\n'
      '  --gin.TRAIN_STEPS=500 --gin.MODEL_DIR="\'runs/short\'"',
    ),
    (
      'Fine-tuning T5 1.1 base on a task of yours',
      'python -m t5x.train --gin_file=t5x/examples/t5/t5_1_1/base.gin \\\n'
      '  --gin_file=t5x/configs/runs/finetune.gin --gin_file=my_task.gin',
    ),
  ),
  'eval': (
    (
      "A run's last checkpoint again",
      'python -m t5x.eval --gin_file=runs/dss_cqa/config.gin \\\n'
      '  --gin_file=gin/dss_eval.gin',
    ),
    (
      'All of its checkpoints',
      'python -m t5x.eval --gin_file=runs/dss_cqa/config.gin \\\n'
      '  --gin_file=gin/dss_eval.gin --gin.CHECKPOINT_MODE="\'all\'"',
    ),
  ),
  'infer': (
    (
      "A run's predictions for the test questions",
      'python -m t5x.infer --gin_file=runs/dss_cqa/config.gin \\\n'
      '  --gin_file=gin/dss_infer.gin',
    ),
    (
      'Predictions for inputs of your own, one {"input": …} a line',
      'python -m t5x.infer --gin_file=runs/dss_cqa/config.gin \\\n'
      '  --gin_file=gin/dss_infer.gin --gin.INPUTS="\'questions.jsonl\'"',
    ),
  ),
  'precompile': (
    (
      'Does it fit?',
      'python -m t5x.precompile --gin_file=t5x/examples/t5/t5_1_1/xl.gin \\\n'
      '  --gin_file=t5x/configs/runs/precompile.gin --gin_file=my_task.gin \\\n'
      '  --gin.MODEL_DIR="\'runs/xl\'"',
    ),
  ),
}


def asks_for_help(args: Sequence[str]) -> bool:
  """Whether a command line asks for help."""
  return any(arg in HELP_FLAGS for arg in args)


def text(mode: str) -> str:
  """Returns the help of `python -m t5x.<mode>`; the flags must be defined."""
  lines = [
    *textwrap.wrap(_PURPOSES[mode], _WIDTH),
    '',
    f'usage: python -m t5x.{mode} --gin_file=FILE … [--gin.NAME=VALUE …]',
  ]
  for group, names in _GROUPS.items():
    lines += ['', f'{group}:']
    for name in names:
      lines += _flag(name)
      if name == 'gin_file':
        lines += ['  --gin.NAME=VALUE', *_wrapped(_MACRO)]
  modes = [mode] if mode in _EXAMPLES else list(_EXAMPLES)
  lines += ['', 'Examples:']
  for what, command in (pair for m in modes for pair in _EXAMPLES[m]):
    if mode == 'main':
      entry = command.split()[2]
      run_mode = entry.removeprefix('t5x.')
      command = command.replace(entry, f't5x.main --run_mode={run_mode}')
    lines += [f'  {what}', *textwrap.indent(command, '    ').splitlines()]
  lines += ['', '--helpfull lists the flags of all libraries.']
  return '\n'.join(lines)


def _flag(name: str) -> list[str]:
  value = f'={_VALUES[name]}' if name in _VALUES else ''
  # Without what absl adds: the choices, and that a flag is repeatable.
  plain = re.sub(
    r'^<.*?>: |;\s+repeat this option.*', '', flags.FLAGS[name].help
  )
  return [f'  --{name}{value}', *_wrapped(plain)]


def _wrapped(paragraph: str) -> list[str]:
  return textwrap.wrap(
    paragraph,
    _WIDTH,
    initial_indent=_INDENT,
    subsequent_indent=_INDENT,
    break_on_hyphens=False,
  )
