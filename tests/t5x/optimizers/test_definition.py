"""The interface of optimizers."""

import jax
import jax.numpy as jnp
import pytest

from t5x import adafactor, optimizers


def test_an_optimizer_that_lacks_a_part_says_so():
  incomplete = optimizers.OptimizerDef(None)
  with pytest.raises(NotImplementedError):
    incomplete.init_state({})
  state = optimizers.OptimizerState(jnp.int32(0), {})
  with pytest.raises(NotImplementedError):
    incomplete.apply_gradient(None, {}, state, {})
  optimizer = optimizers.Optimizer(incomplete, state=state, target={})
  with pytest.raises(NotImplementedError):
    incomplete.derive_logical_axes(optimizer, {})


def test_only_arrays_are_leaves_of_an_optimizer():
  # So that jit takes it, and keeps the definition beside it.
  optimizer = adafactor.Adafactor().create({'w': jnp.ones((2, 3))})
  leaves = jax.tree.leaves(optimizer)
  assert len(leaves) == 6  # The step, four moments and the parameter.
  assert all(isinstance(leaf, jax.Array) for leaf in leaves)
