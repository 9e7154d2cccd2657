"""Screens that a run of the method shows at its start and its end.

`Screen` is an action of the trainer, called after each evaluation. It reads
what the run wrote, so that it shows nothing which the files don't hold.
"""

import json
import os
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import seqio
import tensorflow as tf
from rich import box, panel, table
from rich import text as rich_text

from dss_jax import command_lines, mixtures, neutral
from dss_jax.data import equations, release
from dss_jax.pipeline import experiment as experiment_lib
from dss_jax.pipeline import kinds as kinds_lib
from dss_jax.pipeline import lengths, methods
from dss_jax.training_data import counting
from t5x import trainer

_EXAMPLES = 3
_METHOD_NAMES = {
  'dss': 'distilling step by step',
  'finetune': 'finetuning on labels',
  'single_task': 'rationale and label in one target',
}
# What the task of a student's labels may be called.
_LABEL_ROLES = ('label', 'finetune', 'single')
# What a score is called, by its name in the metrics.
_SCORES = {
  'accuracy': 'label accuracy',
  'agreement': 'agreement with the teacher',
}
# Of the screen itself, beside those of an experiment.
_OPTIONS = (
  'eval_mixture',
  'model_dir',
  'total_steps',
  'initial_checkpoint_path',
  'step',
  'task_feature_lengths',
)


class Screen(trainer.BaseAction):
  """Opens a run with what it is, and closes it with what came out."""

  def __init__(
    self,
    eval_mixture: str,
    model_dir: str,
    total_steps: int,
    initial_checkpoint_path: str | None = None,
    experiment: experiment_lib.Experiment | None = None,
    step: mixtures.Step | None = None,
    task_feature_lengths: Mapping[str, int] | None = None,
    **options: Any,
  ):
    """Prints the first lines.

    Args:
      eval_mixture: the mixture that is evaluated.
      model_dir: the run's folder.
      total_steps: the last step, at which the last screen is shown.
      initial_checkpoint_path: where the weights come from, None from scratch.
      experiment: what the run trains on.
      step: what a step holds; None says nothing about it.
      task_feature_lengths: to which training cuts examples; with them, the
        screen says how many it cuts.
      **options: those of an `Experiment`, in place of one.

    Raises:
      DataError: there are options beside an experiment, or neither.
    """
    self._tasks = [
      task.name
      for task in seqio.get_subtasks(seqio.get_mixture_or_task(eval_mixture))
    ]
    self._experiment = experiment_lib.given(
      'screen.Screen', experiment, options, _OPTIONS
    )
    self._model_dir = model_dir
    self._total_steps = total_steps
    self._step = step
    self._initial = initial_checkpoint_path
    # Standard output is for results; the progress bar has standard error.
    self._console = neutral.console(
      soft_wrap=False, quiet=jax.process_index() != 0
    )
    self._lengths = task_feature_lengths
    self._counted = False
    self._open()
    if jax.process_index() == 0:
      self._show_cuts()

  def run(
    self, train_state: Any, metrics_by_task: Mapping[str, Mapping[str, Any]]
  ) -> bool:
    """Shows the accuracies, and at the last step the whole screen."""
    step = int(train_state.step)
    if jax.process_index() == 0:
      self._keep_counts()
    metrics = {
      task: {k: _number(v) for k, v in values.items()}
      for task, values in metrics_by_task.items()
    }
    if step < self._total_steps:
      for name, title in _SCORES.items():
        parts = [
          f'{_split(task)} {_with_interval(values, name)}'
          for task, values in metrics.items()
          if name in values
        ]
        if parts:
          # One line of 80 columns, of two splits.
          self._console.print(f'step {step}, {title}: ' + ', '.join(parts))
    elif jax.process_index() == 0:
      self._close(step, metrics)
    return False

  def _open(self) -> None:
    experiment = self._experiment
    lines = rich_text.Text()
    method = _METHOD_NAMES[experiment.method]
    lines.append(f'{experiment.data_set.upper()}: {method}', style='bold')
    lines.append(f', {experiment.labels} labels. ')
    if experiment.place == 'sample':
      lines.append(
        'This is the packaged sample, a small world made to try things on. '
      )
    else:
      lines.append(f'Data: {experiment.place}. ')
    if self._initial is None:
      lines.append('The model starts from scratch.')
    else:
      lines.append(f'The model starts from {self._initial}.')
    lines.append(self._kinds())
    lines.append(self._steps())
    if experiment.place == 'sample':
      self._append_real_run(lines)
    self._console.print(panel.Panel(lines, box=box.ROUNDED, expand=False))

  def _kinds(self) -> str:
    """What several kinds of rationales are, and how many rows lack each."""
    experiment = self._experiment
    parts = []
    for kind, by_split in mixtures.without_kinds(experiment).items():
      (weight,) = [k.weight for k in experiment.kinds if k.name == kind]
      out = by_split['train']
      lacking = f', which {out:,} train rows lack' if out else ''
      parts.append(f'{kind} (weight {weight:.3g}{lacking})')
    return f'\nRationales of {len(parts)} kinds: {", ".join(parts)}.' * bool(
      parts
    )

  def _append_real_run(self, lines: rich_text.Text) -> None:
    """Adds the command of the run that the sample stands for, if there is."""
    name, method = self._experiment.data_set, self._experiment.method
    if name not in release.ROWS:
      return
    macros = {'DATA': 'release'}
    if method != 'dss':
      macros['METHOD'] = method
    real = command_lines.train(
      [f'gin/dss_{name}.gin', 'gin/sizes/base.gin'],
      # The folder of this run has another model.
      {**macros, 'MODEL_DIR': f'{self._model_dir.rstrip("/")}_base'},
    )
    lines.append('\nThe real run, on an accelerator:\n')
    lines.append(command_lines.typed(real, '  '), style='cyan')

  def _steps(self) -> str:
    """What a step holds, and how often that is all of the data."""
    if self._step is None:
      return ''
    steps = f'\n{self._total_steps:,} steps'
    if self._step.batch_size:
      return f'{steps} of {self._step.batch_size} rows.'
    layout = self._step.layout()
    epochs = self._total_steps * layout.labels / layout.examples
    kind = 'targets' if self._experiment.method == 'single_task' else (
      'label examples'
    )  # fmt: skip
    length, target_length = layout.row_shape
    encoder, decoder = (f'{100 * part:.0f}%' for part in layout.fill)
    return (
      f'{steps} of {layout.labels} {kind}: {epochs:.3g} epochs of'
      f' {layout.examples:,}.\nA step is {layout.rows} rows of {length} input'
      f' and {target_length} target positions, {encoder} and {decoder} of them'
      ' filled.'
    )

  def _show_cuts(self) -> None:
    self._cuts = lengths.run_cuts(self._experiment, self._lengths)
    if text := lengths.warning(self._cuts, self._lengths or {}):
      self._console.print(rich_text.Text(text, style='yellow'), soft_wrap=True)

  def _keep_counts(self) -> None:
    """Writes what is trained on, once the folder is this run's."""
    if not self._counted:
      found = counting.count(
        self._experiment,
        self._cuts,
        self._lengths,
        self._step,
        self._total_steps,
      )
      counting.write(self._model_dir, found)
      self._counted = True

  def _close(
    self, step: int, metrics: Mapping[str, Mapping[str, float]]
  ) -> None:
    self._show_scores(step, metrics)
    rationales = [
      f'{self._kind_of(task)}{_split(task)}: BLEU {values["bleu"]:.1f},'
      f' ROUGE-L {values["rouge_l"]:.1f}'
      for task, values in metrics.items()
      if 'bleu' in values and not _scores(values)
    ]
    if rationales:
      self._console.print(
        "Rationales against the teacher's: " + '; '.join(rationales)
      )
      self._console.print()
    self._show_examples(step, metrics)
    self._show_places()
    self._show_next(metrics)

  def _kind_of(self, task: str) -> str:
    """The name of a rationale task's kind with a blank; '' for an only one."""
    kinds = self._experiment.kinds
    if len(kinds) == 1:
      return ''
    return f'{kinds[kinds_lib.of_task(task) - 1].name} '

  def _show_scores(
    self, step: int, metrics: Mapping[str, Mapping[str, float]]
  ) -> None:
    """Prints accuracies; and agreements, which are said to be no accuracy."""
    kinds = [n for n in _SCORES if any(n in m for m in metrics.values())]
    scores = table.Table(
      title=f'After {step} steps', box=box.SIMPLE_HEAD, title_justify='left'
    )
    title = _SCORES[kinds[0]] if len(kinds) == 1 else 'score'
    for column in ('', title, '95% interval', 'examples'):
      scores.add_column(column)
    for task, values in metrics.items():
      for name in _scores(values):
        kind = '' if len(kinds) == 1 else f', {_SCORES[name]}'
        scores.add_row(
          f'{_split(task)}{kind}',
          _percent(values[name]),
          _interval(values, name),
          str(len(self._results(task, step))),
        )
    self._console.print(scores)
    if kinds == ['agreement']:
      self._console.print(
        'Agreement is with the labels of the teacher, which errs. A file with'
        ' gold labels as TEST says how often the student is right.'
      )

  def _results(self, task: str, step: int) -> list[Mapping[str, Any]]:
    path = os.path.join(
      self._model_dir, 'inference_eval', f'{task}-{step:06}.jsonl'
    )
    if not tf.io.gfile.exists(path):
      return []
    with tf.io.gfile.GFile(path) as f:
      return [json.loads(line) for line in f]

  def _show_examples(
    self, step: int, metrics: Mapping[str, Mapping[str, float]]
  ) -> None:
    task = self._task(*_LABEL_ROLES)
    of_teacher = 'agreement' in metrics.get(task, {})
    gold = 'the teacher' if of_teacher else 'right'
    labels = self._results(task, step)
    kinds = self._experiment.kinds
    by_kind = [
      {
        _question(r, (kind.prefix,)): r
        for r in self._results(self._task(kind.column), step)
      }
      for kind in kinds
    ]
    for i, row in enumerate(labels[:_EXAMPLES], start=1):
      body = rich_text.Text()
      body.append(_question(row) + '\n')
      found, expected = _first(row, 'prediction'), _target(row)
      right = found == expected or (
        self._experiment.by_value and equations.same_value(found, expected)
      )
      body.append('predicted label      ', style='dim')
      body.append(found, style='green' if right else 'red')
      body.append('' if right else f'   ({gold}: {expected})')
      for kind, by_question in zip(kinds, by_kind, strict=True):
        rationale = by_question.get(_question(row))
        if rationale is not None:
          body.append(f'\ngenerated {kind.title:<9}  ', style='dim')
          body.append(textwrap.shorten(_first(rationale, 'prediction'), 400))
      self._console.print(
        panel.Panel(
          body,
          title=rich_text.Text(f'test example {i}'),
          title_align='left',
          box=box.ROUNDED,
        )
      )

  def _task(self, *roles: str) -> str:
    """The evaluated task of the test split with one of these roles."""
    named = [
      t
      for t in self._tasks
      if _split(t) == 'test' and any(f'_{role}_' in t for role in roles)
    ]
    return named[0] if named else ''

  def _show_places(self) -> None:
    for name, where in (
      ('checkpoints', 'checkpoint_<step>/'),
      ('metrics', 'train/, training_eval/, inference_eval/*-metrics.jsonl'),
      ('predictions', 'inference_eval/<task>-<step>.jsonl'),
      ('configuration', 'config.gin, model-info.txt'),
    ):
      self._console.print(f'{name:<14} {where}')
    curves = command_lines.typed(
      ['tensorboard', f'--logdir={self._model_dir}'], one_line=True
    )
    self._console.print(
      rich_text.Text(
        f'in             {self._model_dir}\ncurves         {curves}'
      ),
      soft_wrap=True,
    )

  def _show_next(self, metrics: Mapping[str, Mapping[str, float]]) -> None:
    """Prints the commands that a comparison of methods goes on with."""
    experiment = self._experiment
    other = 'dss' if experiment.method == 'finetune' else 'finetune'
    folder = f'{self._model_dir.rstrip("/")}_{other}'
    command = command_lines.with_method(sys.argv, other, folder, sys.orig_argv)
    if command is not None:
      self._console.print('\nNext, the comparison that the paper makes:')
      self._show_command(command)
    if 'accuracy' not in metrics.get(self._task(*_LABEL_ROLES), {}):
      # A study measures accuracy.
      return
    self._console.print(
      '\nMethods, several seeds and parts of the rows, with a report:'
    )
    self._show_command(
      command_lines.study(
        sys.argv, experiment.data_set, experiment.place, experiment.labels
      )
    )

  def _show_command(self, command: Sequence[str]) -> None:
    # As text, since values may look like the console's markup.
    typed = command_lines.typed(command, indent='  ')
    self._console.print(rich_text.Text(typed, style='cyan'), soft_wrap=True)


def _number(value: Any) -> Any:
  return getattr(value, 'value', value)


def _split(task: str) -> str:
  # The last one, since a teacher may be called `test`, too.
  found = re.findall(r'_(validation|test)(?=_|$)', task)
  return found[-1] if found else task


def _percent(value: float) -> str:
  return f'{value:.1f}%'


def _scores(values: Mapping[str, float]) -> list[str]:
  return [name for name in _SCORES if name in values]


def _interval(values: Mapping[str, float], name: str) -> str:
  if f'{name}_low' not in values:
    return ''
  low, high = values[f'{name}_low'], values[f'{name}_high']
  return f'{_percent(low)} to {_percent(high)}'


def _with_interval(values: Mapping[str, float], name: str) -> str:
  shown = _percent(values[name])
  if f'{name}_low' in values:
    shown += f' ({values[f"{name}_low"]:.1f}–{values[f"{name}_high"]:.1f})'
  return shown


def _question(
  row: Mapping[str, Any], prefixes: Sequence[str] = (methods.LABEL_PREFIX,)
) -> str:
  text = row.get('input', {}).get('inputs_pretokenized', '')
  for prefix in prefixes:
    text = text.removeprefix(prefix)
  return text


def _target(row: Mapping[str, Any]) -> str:
  return str(row.get('target', ''))


def _first(row: Mapping[str, Any], name: str) -> str:
  value = row.get(name, '')
  if isinstance(value, Sequence) and not isinstance(value, str):
    value = value[0] if value else ''
  return str(value)
