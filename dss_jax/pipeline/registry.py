"""Adds tasks and mixtures to SeqIO's registries, each name for one meaning."""

from collections.abc import Collection, Sequence

import seqio

from dss_jax import errors
from dss_jax.pipeline import cached_tasks, sources, steps

# What was registered under a name, for telling a repetition from a clash.
_MEANINGS: dict[str, tuple[object, ...]] = {}


def _is_new(
  taken: Collection[str], name: str, meaning: tuple[object, ...]
) -> bool:
  """Says whether a name is still to be registered.

  Args:
    taken: the names that are registered.
    name: which one.
    meaning: what it is to stand for.

  Raises:
    DataError: it stands for something else already.
  """
  if name not in taken:
    _MEANINGS[name] = meaning
    return True
  known = _MEANINGS.get(name, 'a task of another program')
  if known != meaning:
    raise errors.DataError(
      f'The name {name!r} is taken: expected it to be free or to stand for'
      f' {meaning}, found {known}.'
      ' Rename the TEACHER, whose name most likely caused this.'
    )
  return False


def add_task(
  name: str, source: sources.DssSource, kind: str, *args, **kwargs
) -> None:
  """Registers a task unless it is registered.

  Args:
    name: of the task.
    source: where its rows come from.
    kind: with the source's `meaning`, what tells the task from others.
    *args: of `seqio.TaskRegistry.add`.
    **kwargs: likewise.

  Raises:
    DataError: the name stands for something else.
  """
  if _is_new(seqio.TaskRegistry.names(), name, (kind, *source.meaning)):
    seqio.TaskRegistry.add(
      name, source, *args, task_cls=cached_tasks.Task, **kwargs
    )


def add_step_mixture(
  name: str, tasks: Sequence[tuple[str, float]], step: steps.Layout
) -> None:
  """Registers a mixture that lays out steps unless it is registered.

  Args:
    name: of the mixture.
    tasks: names and rates of what it mixes.
    step: how its steps are laid out.

  Raises:
    DataError: the name stands for something else.
  """
  if _is_new(seqio.MixtureRegistry.names(), name, (*tasks, step)):
    seqio.MixtureRegistry.add(
      name, tasks, mixture_cls=steps.StepMixture, step=step
    )


def add_mixture(name: str, tasks: Sequence[tuple[str, float]]) -> None:
  """Registers a mixture of rated tasks unless it is registered.

  Args:
    name: of the mixture.
    tasks: names and rates of what it mixes.

  Raises:
    DataError: the name stands for something else.
  """
  if _is_new(seqio.MixtureRegistry.names(), name, tuple(tasks)):
    seqio.MixtureRegistry.add(name, tasks, mixture_cls=cached_tasks.Mixture)
