"""Mistakes in flags and gin files, found before any large library is loaded.

What is refused here, a run would refuse in the same words seconds later. What
can't be known yet passes: gin files in packages and at URLs, and what Python
modules that gin files import make of them.
"""

import re
import sys
from collections.abc import Sequence

from absl import flags

from t5x import gin_utils
from t5x.cli import flags as flags_lib
from t5x.cli import gin_reader, stages
from t5x.files import gin_files

# Of absl, and of the libraries that are loaded later.
_OF_LIBRARIES = frozenset(
  (
    'helpfull', 'helpxml',
    'experimental_orbax_use_distributed_process_id',
    'experimental_orbax_use_distributed_barrier',
    'op_conversion_fallback_to_while_loop',
    'delta_threshold', 'tt_check_filter', 'tt_single_core_summaries',
    'runtime_oom_exit', 'hbm_oom_exit',
    'test_srcdir', 'test_tmpdir', 'test_random_seed',
    'test_randomize_ordering_seed', 'xml_output_file',
    'tfds_debug_list_dir',
  )
)  # fmt: skip
# Shown in the first line of a process, where the gin files or flags set them.
_TOLD = (
  'DATA', 'MIXTURE_OR_TASK_NAME', 'METHOD', 'TRAIN_STEPS', 'MODEL_DIR',
  'INPUTS', 'INFER_OUTPUT_DIR', 'EVAL_OUTPUT_DIR',
)  # fmt: skip


def check(arguments: Sequence[str]) -> str:
  """Checks flags and gin files.

  Args:
    arguments: `sys.argv`.

  Returns:
    What the process is about to do, in one line.

  Raises:
    errors.UserError: for a flag that is unknown or has no such value, a gin
      file that is absent or none, or a macro that no file knows.
  """
  values = _flags(gin_utils.rewrite_gin_args(arguments))
  if values.process_index:
    stages.silence()  # The first process speaks for all.
  flags_lib.check_configured(values)
  paths, folders = values.gin_file or [], values.gin_search_paths
  gin_files.check(paths, folders)
  bindings = [gin_utils.with_quotes(line) for line in values.gin_bindings]
  contents = gin_reader.read(paths, folders)
  if paths and not contents.unread:
    gin_utils.check_macros(bindings, contents.used | set(contents.macros))
  told = {name: repr(macro.value) for name, macro in contents.macros.items()}
  for line in bindings:
    name, _, value = line.partition('=')
    told[name.strip()] = value.strip()
  parts = [f'{name} {told[name]}' for name in _TOLD if name in told]
  return ', '.join([' '.join(paths) or 'no gin file', *parts])


def _flags(arguments: Sequence[str]) -> flags.FlagValues:
  """Returns the flags, parsed apart from those that the process will have."""
  values = flags.FlagValues()
  flags_lib.define_flags(values)
  try:
    left = values(list(arguments), known_only=True)
  except flags.Error as error:
    raise gin_utils.flag_error(error, values) from error
  for argument in left[1:]:
    if argument == '--':
      break
    found = re.match(r'--?([A-Za-z][\w.-]*)', argument)
    if not found:
      continue
    name = found[1]
    names = {name, name.removeprefix('no')}
    if not names & _OF_LIBRARIES and not names & set(flags.FLAGS):
      raise gin_utils.flag_error(
        flags.UnrecognizedFlagError(name), {*flags.FLAGS, *values}
      )
  return values


def check_or_exit() -> str:
  """As `check` of this process; a mistake is printed and ends it."""
  with gin_utils.user_errors_end_the_process():
    return check(sys.argv)
