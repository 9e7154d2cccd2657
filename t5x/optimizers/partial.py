"""Optimizer of a part of the parameters, the others being frozen."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from flax import traverse_util

from t5x import errors, state_utils
from t5x.optimizers.definition import OptimizerDef, OptimizerState
from t5x.optimizers.multi import MultiOptimizer


class _Chosen:
  """Selects the leaves with paths that a function chooses."""

  def __init__(self, choose: Callable[[str], bool]):
    self._choose = choose

  def iterate(self, inputs: Any) -> Iterator[Any]:
    """Yields them."""
    for path, leaf in traverse_util.flatten_dict(inputs, sep='/').items():
      if self._choose(path):
        yield leaf


class PartialOptimizer(MultiOptimizer):
  """Trains a part of the parameters.

  The others are frozen: no gradients of them are computed, and the optimizer
  keeps nothing for them. What is kept for the trained ones is in the state's
  `param_states` under '0', as `MultiOptimizer` has it.

  Args:
    optimizer: of what is trained.
    frozen: what is not: regular expressions, each of which matches one or more
      whole names of a path (see `state_utils.matches_names`), such as
      'token_embedder'.
    trained: the same for the only ones that are trained; None for all but the
      frozen ones.
  """

  def __init__(
    self,
    optimizer: OptimizerDef,
    frozen: Sequence[str] = (),
    trained: Sequence[str] | None = None,
  ):
    self._patterns = {
      'frozen': _checked('frozen', frozen),
      'trained': None if trained is None else _checked('trained', trained),
    }
    super().__init__([(_Chosen(self._is_trained), optimizer)])

  def _is_trained(self, path: str) -> bool:
    frozen, trained = self._patterns['frozen'], self._patterns['trained']
    if any(
      state_utils.matches_names(pattern, path) for pattern in frozen or ()
    ):
      return False
    return trained is None or any(
      state_utils.matches_names(p, path) for p in trained
    )

  def init_state(self, params: Any) -> OptimizerState:
    """Returns the state at step 0.

    Raises:
      errors.UserError: a pattern matches no parameter, or none is trained.
    """
    paths = list(traverse_util.flatten_dict(params, sep='/'))
    names = sorted({name for path in paths for name in path.split('/')})
    for argument, patterns in self._patterns.items():
      for pattern in patterns or ():
        if not any(state_utils.matches_names(pattern, path) for path in paths):
          raise errors.UserError(
            f'PartialOptimizer.{argument}: no parameter of the model has'
            f' {pattern!r} among the names of its path. Names are such as'
            f' {", ".join(names[:12])}.' + errors.did_you_mean(pattern, names)
          )
    if not any(map(self._is_trained, paths)):
      raise errors.UserError(
        'PartialOptimizer: every parameter is frozen, so there is nothing to'
        f' train; found frozen = {self._patterns["frozen"]!r} and trained ='
        f' {self._patterns["trained"]!r}. Freeze fewer.'
      )
    return super().init_state(params)


def _checked(argument: str, patterns: Sequence[str]) -> tuple[str, ...]:
  """Returns patterns as a tuple.

  Raises:
    errors.UserError: they are no list of regular expressions.
  """
  if isinstance(patterns, str) or not all(isinstance(p, str) for p in patterns):
    raise errors.UserError(
      f'PartialOptimizer.{argument}: expected a list of names such as'
      f" ('token_embedder',), found {patterns!r}."
    )
  for pattern in patterns:
    try:
      re.compile(pattern)
    except re.error as error:
      raise errors.UserError(
        f'PartialOptimizer.{argument}: expected regular expressions, found'
        f' {pattern!r} ({error}).'
      ) from error
  return tuple(patterns)
