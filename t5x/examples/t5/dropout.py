"""Dropout whose mask all positions of a row share, or those of one example.

Axes: B batch, L length, D features.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int, UInt32

# Which positions of a row share a mask: all of it, as in T5X; those of one
# example of a packed row; or none, as in transformers' T5.
MASKS = ('row', 'example', 'position')

# An odd number near 2^32 divided by the golden ratio: neighbors get far apart.
_SPREAD = 0x9E3779B9


class Dropout(nn.Dropout):
  """`flax.linen.Dropout`, with a mask for each group of positions."""

  # flax's own method takes no groups.
  def __call__(
    self,
    inputs: Float[Array, 'B L D'],
    deterministic: bool | None = None,
    rng: jax.Array | None = None,
    groups: Int[Array, '#B L'] | None = None,
  ) -> Float[Array, 'B L D']:
    """Drops values at the rate, and scales up the others.

    Random numbers are drawn for one position of each row, whatever the groups;
    a group's mask comes from mixing its number into them, which takes a few
    operations on integers that the compiler fuses with the product.

    Args:
      inputs: what to drop values of.
      deterministic: True drops nothing.
      rng: the key; None takes that of the collection 'dropout'.
      groups: positions of a row with the same number share a mask. None is
        flax's own dropout, with a mask for each row if `broadcast_dims` is
        (-2,).
    """
    deterministic = nn.merge_param(
      'deterministic', self.deterministic, deterministic
    )
    if self.rate == 0.0 or deterministic:
      return inputs
    if self.rate == 1.0:
      return jnp.zeros_like(inputs)
    keep = 1.0 - self.rate
    if rng is None:
      rng = self.make_rng(self.rng_collection)
    shape = list(inputs.shape)
    if groups is None:
      for axis in self.broadcast_dims:
        shape[axis] = 1
      return scaled(inputs, jax.random.bernoulli(rng, keep, shape), keep)
    rows, _, features = shape
    drawn = jax.random.bits(rng, (rows, 1, features), jnp.uint32)
    mixed = mix(
      drawn ^ groups.astype(jnp.uint32)[..., None] * jnp.uint32(_SPREAD)
    )
    return scaled(inputs, mixed < jnp.uint32(round(keep * 2**32)), keep)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def scaled(
  x: Float[Array, 'B L D'], kept: Bool[Array, 'B #L D'], keep: float
) -> Float[Array, 'B L D']:
  """Divides what is kept by the part that is, and sets the rest to zero.

  The backward pass multiplies by the reciprocal, since a compiler computes a
  product twice inside of what reads it, but writes a quotient to memory. All
  that waits for it is the mask, as small as it was drawn.

  Args:
    x: what to drop values of.
    kept: the mask, which may be that of one position for all.
    keep: the part that is kept, on average.
  """
  return jnp.where(kept, x / keep, jnp.zeros_like(x))


def _scaled_fwd(x, kept, keep):
  return scaled(x, kept, keep), kept


def _scaled_bwd(keep, kept, cotangent):
  # Of what the forward pass divides by, which bfloat16 rounds.
  reciprocal = 1.0 / jnp.asarray(keep, cotangent.dtype).astype(jnp.float32)
  grad = cotangent.astype(jnp.float32) * reciprocal
  grad = jnp.where(kept, grad, 0.0)
  return grad.astype(cotangent.dtype), None


scaled.defvjp(_scaled_fwd, _scaled_bwd)


def mix(bits: UInt32[Array, '*B']) -> UInt32[Array, '*B']:
  """Returns numbers of which every bit depends on every bit of the given ones.

  It maps the 32-bit numbers one to one, with the shifts and factors that
  MurmurHash3 ends with.
  """
  bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
  bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
  return bits ^ (bits >> 16)
