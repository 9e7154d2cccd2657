"""Names of tasks and mixtures, by the rule that `dss_jax.mixtures` states."""

import hashlib
from collections.abc import Sequence

import seqio

from dss_jax.data import tfds_builders
from dss_jax.pipeline import experiment as experiment_lib
from dss_jax.pipeline import kinds, steps
from dss_jax.pipeline.scoring import grading


def train_name(experiment: experiment_lib.Experiment) -> str:
  """Returns the name of the mixture to train on.

  Args:
    experiment: whose.
  """
  parts = [experiment.labels, *_teachers(experiment)]
  rates = experiment.method == 'dss' and not experiment.paired
  if rates and experiment.rationale_rate != 1.0:
    parts.append(f'r{_number(experiment.rationale_rate)}')
  if experiment.pairs_tasks:
    parts.append('paired')
  return '_'.join([
    experiment.method,
    *_data(experiment, experiment.used_teachers),
    *parts,
    *_suffixes(experiment, drawn=True, rationales=True, labels=True),
  ])  # fmt: skip


def kinds_tag(experiment: experiment_lib.Experiment) -> str:
  """Returns the part of a name that says whose rationales, and which kinds.

  Args:
    experiment: whose.
  """
  return kinds.joined([
    kind.tag(experiment.teacher_of(kind)) for kind in experiment.kinds
  ])  # fmt: skip


def both(experiment: experiment_lib.Experiment) -> list[str]:
  """Returns what a task that has labels and rationales is called after.

  Args:
    experiment: whose.
  """
  return [experiment.labels, *_teachers(experiment)]


def _teachers(experiment: experiment_lib.Experiment) -> list[str]:
  """Returns whose labels and rationales are trained on, each once."""
  teacher = [experiment.teacher] if experiment.labels == 'teacher' else []
  if not experiment.uses_rationales:
    return teacher
  return _each_once(teacher, kinds_tag(experiment))


def _each_once(teacher: list[str], tag: str) -> list[str]:
  """Returns a teacher of labels and a tag, or the tag if it begins with it."""
  return [tag] if teacher == [tag.partition('.')[0]] else [*teacher, tag]


def step_name(layout: steps.Layout) -> str:
  """Returns the name of the mixture that lays out the steps of a run.

  Args:
    layout: of the steps.
  """
  digits = hashlib.sha256(repr(layout).encode()).hexdigest()[:8]
  return f'{layout.mixture}_n{layout.labels}_{digits}'


def eval_name(
  experiment: experiment_lib.Experiment, rationales: bool = True
) -> str:
  """Returns the name of the mixture to evaluate.

  Args:
    experiment: whose.
    rationales: whether generated rationales are evaluated too, where the
      method generates them on their own.
  """
  shows = rationales and experiment.method == 'dss'
  of_teacher = 'teacher_label' in grading.columns(experiment).values()
  teachers = [experiment.teacher] if of_teacher else []
  shown = list(teachers)
  if shows or experiment.method == 'single_task':
    teachers += [experiment.teacher_of(kind) for kind in experiment.kinds]
    shown = _each_once(shown, kinds_tag(experiment))
  return '_'.join([
    'eval',
    experiment.method,
    *_data(experiment, teachers),
    *shown,
    *_suffixes(experiment, drawn=True, rationales=False),
  ])  # fmt: skip


def task_name(
  experiment: experiment_lib.Experiment,
  parts: Sequence[str],
  *,
  teachers: Sequence[str] = (),
  drawn: bool = True,
  rationales: bool = False,
  labels: bool = False,
) -> str:
  """Returns the name of a task.

  Args:
    experiment: whose.
    parts: what the task is called between its data and its suffixes.
    teachers: whose outputs come with its rows.
    drawn: whether its rows are drawn.
    rationales: whether it trains on rationales.
    labels: whether it trains on labels.
  """
  return '_'.join([
    *_data(experiment, teachers),
    *parts,
    *_suffixes(
      experiment, drawn=drawn, rationales=rationales, labels=labels
    ),
  ])  # fmt: skip


def _data(
  experiment: experiment_lib.Experiment, teachers: Sequence[str]
) -> list[str]:
  """Returns the data set and where it comes from."""
  tag = tfds_builders.data_tag(
    experiment.data_set,
    experiment.rows,
    *(dict.fromkeys(teachers) or (None,)),
  )
  return [experiment.data_set, tag]


def _suffixes(
  experiment: experiment_lib.Experiment,
  *,
  drawn: bool,
  rationales: bool,
  labels: bool = False,
) -> list[str]:
  """Returns a suffix for each option that makes a difference.

  Args:
    experiment: whose.
    drawn: whether rows are drawn.
    rationales: whether rationales are trained on, if the method uses any.
    labels: whether labels are trained on.
  """
  parts = []
  if rationales and experiment.checks_rationales:
    parts.append('correct')
  if (rationales and experiment.trains_on_blanks) or (
    labels and experiment.trains_on_blank_labels
  ):
    parts.append('blanks')
  swapped = rationales and experiment.swaps_rationales
  if swapped:
    parts.append('shuffled')
  fewer = drawn and experiment.fraction != 1.0
  if fewer:
    parts.append(f'f{_number(experiment.fraction)}')
  if experiment.draw_seed and (swapped or fewer):
    parts.append(f's{experiment.draw_seed}')
  if experiment.vocabulary is not None:
    mine = _fingerprint(experiment.vocabulary)
    if mine != _fingerprint(experiment_lib.sample_vocabulary()):
      parts.append(f'v{mine}')
  return parts


def _fingerprint(vocabulary: seqio.Vocabulary) -> str:
  """Returns 8 digits that stand for a vocabulary's kind and content."""
  kind = type(vocabulary).__qualname__
  content = getattr(vocabulary, 'sp_model', None)
  if content is None:
    content = b''
  text = f'{kind} {vocabulary.vocab_size} {vocabulary.extra_ids} '
  return hashlib.sha256(text.encode() + content).hexdigest()[:8]


def _number(value: float) -> str:
  """Writes a number with characters that a task's name may have."""
  return repr(float(value)).replace('-', 'm').replace('+', '')
