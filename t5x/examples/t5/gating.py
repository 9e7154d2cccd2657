"""What a feed-forward block does between its products.

Axes: B batch, L length, F mlp.
"""

import functools
import operator
from collections.abc import Callable, Sequence

import jax
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float


def gated(
  activations: Sequence[str | Callable], products: Sequence[jax.Array]
) -> Float[Array, 'B L F']:
  """Applies an activation to each product, and multiplies the results.

  The backward pass starts from the products alone: what is inside the
  activations is computed again, which takes less time than memory does for it.
  It computes the gradients of all products together, where the product that
  they follow from is computed, since otherwise a compiler writes that product
  and reads it again.

  Args:
    activations: 'linear', functions, or names of some in flax.linen.
    products: of the block's input with a kernel for each activation.

  Raises:
    ValueError: a name is unknown.
  """
  functions = [_activation(each) for each in activations]

  def plain(*products):
    return functools.reduce(
      operator.mul,
      (f(x) for f, x in zip(functions, products, strict=True)),
    )

  def backward(saved, cotangent):
    _, pull_back = jax.vjp(plain, *saved)
    return lax.optimization_barrier(pull_back(cotangent))

  gate = jax.custom_vjp(plain)
  gate.defvjp(lambda *products: (plain(*products), products), backward)
  return gate(*products)


def _activation(name: str | Callable) -> Callable[[jax.Array], jax.Array]:
  if callable(name):
    return name
  if name == 'linear':
    return lambda x: x
  found = getattr(nn.activation, name, None)
  if found is None:
    raise ValueError(
      f"MlpBlock.activations: expected 'linear', a function or the name of"
      f' one in flax.linen, found {name!r}.'
    )
  return found
