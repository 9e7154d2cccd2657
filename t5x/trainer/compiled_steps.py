"""Keeps the programs that a trainer has compiled, and says what that took."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
from absl import logging

Program = Callable[..., Any]


def are_shapes(tree: Any) -> bool:
  """Whether a tree says what arrays look like, and has none."""
  return any(
    isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(tree)
  )


def described(tree: Any) -> tuple[Any, ...]:
  """What a program that takes a tree has to know of it."""
  leaves, structure = jax.tree.flatten(tree)
  return structure, *((leaf.shape, leaf.dtype) for leaf in leaves)


class CompiledSteps:
  """Programs, one for each kind of step and the shapes of its batch.

  Attributes:
    programs: by kind of step and what its batch looks like.
    seconds: how long the last compilation of each kind of step took; whoever
      reports it takes it out.
  """

  def __init__(self) -> None:
    self.programs: dict[Any, Program] = {}
    self.seconds: dict[str, float] = {}

  def find(
    self,
    name: str,
    batch: Mapping[str, Any],
    compile_step: Callable[[], Program],
  ) -> Program:
    """Returns the program for such a batch.

    Args:
      name: 'train' or 'eval'.
      batch: arrays, or their shapes.
      compile_step: makes the program, if there is none yet.
    """
    key = (name, described(dict(batch)))
    if key not in self.programs:
      start = time.perf_counter()
      self.programs[key] = compile_step()
      self.seconds[name] = time.perf_counter() - start
      logging.info('Compiled the %s step in %.1f s.', name, self.seconds[name])
    return self.programs[key]

  def take(self, other: 'CompiledSteps') -> None:
    """Adds another's programs."""
    self.programs.update(other.programs)
    self.seconds.update(other.seconds)
