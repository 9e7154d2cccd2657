"""Masks of the most likely tokens, under T5X's name for their module.

T5X finds the thresholds by bisection; here they come from sorted values.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def topk_mask(
  x: Float[Array, '*rows V'], k: int, replace_val: float | jax.Array
) -> Float[Array, '*rows V']:
  """Replaces all but the k greatest values of each row.

  `topk_mask([[1., 3., 2.]], 2, 0.)` is `[[0., 3., 2.]]`. Values that equal the
  k-th greatest stay, too.

  Args:
    x: values.
    k: how many stay.
    replace_val: what the others become.
  """
  least = lax.top_k(x, min(k, x.shape[-1]))[0][..., -1:]
  return jnp.where(x >= least, x, jnp.asarray(replace_val, x.dtype))


def topp_mask(
  logits: Float[Array, '*rows V'],
  p: float | jax.Array,
  replace_val: float | jax.Array,
) -> Float[Array, '*rows V']:
  """Replaces logits outside the fewest likely ones that hold probability p.

  With probabilities 0.5, 0.3 and 0.2, p = 0.6 keeps the first two. The most
  likely one always stays, and so do ties of the least likely that stays.

  Args:
    logits: unnormalized log probabilities.
    p: probability that the ones that stay have at least; may be traced.
    replace_val: what the others become.
  """
  ordered = lax.top_k(logits, logits.shape[-1])[0]
  probabilities = jax.nn.softmax(ordered)
  before = jnp.cumsum(probabilities, axis=-1) - probabilities
  kept = (before < p).at[..., 0].set(True)
  least = jnp.min(jnp.where(kept, ordered, jnp.inf), axis=-1, keepdims=True)
  return jnp.where(
    logits >= least, logits, jnp.asarray(replace_val, logits.dtype)
  )
