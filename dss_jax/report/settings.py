"""What runs are: configuration, data, versions, and their commands."""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence

from dss_jax import command_lines
from dss_jax.pipeline import kinds as kinds_lib
from dss_jax.report import run_files, runs
from dss_jax.training_data import record

# Where a run is, which is never the same.
_PLACES = ('MODEL_DIR', 'train_script.train.model_dir')
_METHODS = {
  'dss': 'Distilling step by step',
  'finetune': 'Finetuning on labels',
  'single_task': 'Rationale and label in one target',
}


@dataclasses.dataclass(frozen=True)
class Command:
  """A command of a page.

  Attributes:
    why: what it does.
    text: as one types it.
  """

  why: str
  text: str


def about(run: runs.Run) -> str:
  """Returns what a run is, in a line.

  Args:
    run: which one.
  """
  if not run.method:
    mixture = run.identity.get('data', {}).get('mixture_or_task')
    return f'A model trained on {mixture}' if mixture else 'A training run'
  parts = [_METHODS.get(run.method, run.method)]
  if run.macro('SHUFFLE_RATIONALES') == 'True':
    parts[0] += ', with the rationales of other rows'
  if labels := run.macro('LABELS'):
    parts.append(f'{labels} labels')
  teacher = run.macro('TEACHER')
  if teacher and run.method != 'finetune':
    parts.append(_rationales(run.kinds, teacher))
  if data_set := run.macro('DATA_SET'):
    place = run.data.place if run.data else run.macro('DATA')
    parts.append(f'{data_set} ({place})' if place else data_set)
  return ' · '.join(parts)


def _rationales(kinds: Sequence[kinds_lib.Kind], teacher: str) -> str:
  """Returns whose rationales are learned, and of which kinds."""
  teachers = {kind.teacher for kind in kinds} - {None}
  named = [kind.name for kind in kinds if kind.name]
  weights = {kind.weight for kind in kinds}
  if len(weights) > 1:
    named = [f'{kind.name} ({kind.weight:.3g})' for kind in kinds]
  if teachers:
    return f'rationales of {", ".join(named)}'
  return f'rationales of {teacher}' + f': {", ".join(named)}' * bool(named)


def state(run: runs.Run) -> str:
  """Returns how far a run is, in a sentence.

  Args:
    run: which one.
  """
  total = f' of {run.total_steps:,}' if run.total_steps else ''
  at = f'step {run.step:,}{total}'
  if run.is_done:
    return f'Finished: {at}.'
  if run.running:
    return f'Still training: {at} when this page was made.'
  if not run.step:
    return 'Not training, and no step was reported yet.'
  if run.total_steps is None:
    return f'Last report: {at}.'
  return f'Ended early: {at}. The same command goes on with it.'


def differences(
  found: Sequence[runs.Run],
) -> list[tuple[str, list[str]]]:
  """Returns what is not the same in the configurations of several runs.

  Args:
    found: the runs.

  Returns:
    Names, each with a value for each run; macros first.
  """
  names = sorted(
    {name for run in found for name in run.bindings},
    key=lambda name: (not run_files.is_macro(name), name),
  )
  rows = [
    (name, [run.bindings.get(name, '–') for run in found])
    for name in names
    if name not in _PLACES
  ]
  return [(name, values) for name, values in rows if len(set(values)) > 1]


def macros(found: Sequence[runs.Run]) -> list[tuple[str, list[str]]]:
  """Returns all macros, each with a value for each run.

  Args:
    found: the runs.
  """
  names = sorted({n for run in found for n in run.bindings})
  return [
    (name, [run.bindings.get(name, '–') for run in found])
    for name in names
    if run_files.is_macro(name)
  ]


def data_rows(data: record.TrainingData) -> list[tuple[str, str]]:
  """Returns what a run trains on, and what of it is cut or left out.

  Args:
    data: as the run counted it.
  """
  rows = [
    ('rows', ', '.join(f'{n:,} {split}' for split, n in data.rows.items()))
  ]
  for task in data.tasks:
    rows.append((f'{task.task}: used', _used(task)))
    if task.needs or task.used < task.drawn:
      what = ' or '.join(name.replace('_', ' ') for name in task.needs)
      out = task.drawn - task.used
      rows.append((f'{task.task}: left out', f'{out:,} without {what or "it"}'))
    for kind, count in task.without.items():
      rows.append((f'{task.task}: without {kind}', f'{count:,}'))
    if task.without_rationale:
      rows.append(
        (f'{task.task}: without a rationale', f'{task.without_rationale:,}')
      )
    if task.teacher_right is not None:
      part = 100 * task.teacher_right / max(task.used, 1)
      rows.append(
        (
          f'{task.task}: teacher right',
          f'{task.teacher_right:,} of {task.used:,} ({part:.1f}%)',
        )
      )
    rows.append((f'{task.task}: cut', _cut(task, data.lengths)))
  if data.step:
    rows.append(('a step', _step(data.step)))
    rows.append(('epochs', f'{data.step["epochs"]:.3g}'))
  return rows


def _used(task: record.TaskRows) -> str:
  return f'{task.used:,} of {task.drawn:,} rows'


def _cut(task: record.TaskRows, lengths: Mapping[str, int]) -> str:
  if not task.counted:
    return 'nothing'
  of = f'of {task.counted:,} examples'
  longest = f'the longest have {task.longest[0]:,} and {task.longest[1]:,}'
  limit = f'{lengths.get("inputs")} input, {lengths.get("targets")} target'
  if not (task.cut_inputs or task.cut_targets):
    return f'none {of} (limits: {limit} tokens; {longest})'
  return (
    f'{task.cut_inputs:,} inputs and {task.cut_targets:,} targets {of} lose'
    f' their end (limits: {limit} tokens; {longest})'
  )


def _step(step: Mapping[str, float]) -> str:
  return (
    f'{step["labels"]:.0f} label examples in {step["rows"]:.0f} rows of'
    f' {step["inputs"]:.0f} input and {step["targets"]:.0f} target positions,'
    f' {step["inputs_fill"]:.0%} and {step["targets_fill"]:.0%} of them filled'
  )


def ran(run: runs.Run) -> list[Command]:
  """Returns the commands that trained a run, the same one once.

  Args:
    run: which one.
  """
  found: dict[str, list[str]] = {}
  for row in run.commands:
    words = command_lines.started(row.get('command') or [])
    if words:
      typed = command_lines.typed(words)
      found.setdefault(typed, []).append(str(row.get('time', '')))
  return [
    Command(f'Started {_times(times)}', text) for text, times in found.items()
  ]


def _times(times: Sequence[str]) -> str:
  first = times[0].replace('T', ' ').removesuffix('+00:00')
  more = len(times) - 1
  again = '' if not more else f', and {more} more time{"s" * (more > 1)}'
  return f'{first} UTC{again}'


def environment(run: runs.Run) -> list[tuple[str, str]]:
  """Returns versions, source and devices of a run's last start.

  Args:
    run: which one.
  """
  if not run.commands:
    return []
  last = run.commands[-1]
  devices = last.get('devices') or {}
  commit = str(last.get('commit') or '')
  rows = [
    ('devices', ', '.join(f'{n} × {kind}' for kind, n in devices.items())),
    ('source', commit[:12] + ('+' if commit.endswith('+') else '')),
    ('folder', str(last.get('folder', ''))),
  ]
  for line in last.get('versions') or []:
    name, _, version = str(line).rpartition(' ')
    rows.append((name.removesuffix(', the files'), version))
  return [(name, value) for name, value in rows if value]


def comes_next(found: Sequence[runs.Run]) -> list[Command]:
  """Returns the commands that go on from runs.

  Args:
    found: the runs; commands go on from the first.
  """
  run = found[0]
  folder = shlex.quote(str(run.folder))
  commands = []
  if run.method and run.step:
    commands += [
      Command('Ask it', f'dss ask {folder} "your text"'),
      Command('Export it for transformers', f'dss export {folder} student'),
    ]
  argv = (run.commands[-1].get('command') if run.commands else None) or []
  if run.method:
    other = 'dss' if run.method == 'finetune' else 'finetune'
    model_dir = f'{str(run.folder).rstrip("/")}_{other}'
    words = command_lines.with_method(argv, other, model_dir)
    if words and len(found) == 1:
      commands.append(
        Command(
          'The same run with the other method', command_lines.typed(words)
        )
      )
      commands.append(
        Command(
          'Both in one page',
          f'dss report {folder} {shlex.quote(model_dir)}',
        )
      )
  if not run.running:
    folders = ' '.join(shlex.quote(str(each.folder)) for each in found)
    why = 'Curves in TensorBoard'
    if len(found) == 1:
      commands.append(Command(why, f'tensorboard --logdir={folders}'))
  return commands
