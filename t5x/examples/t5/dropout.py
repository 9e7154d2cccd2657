"""Dropout whose mask all positions of a row share, or those of one example.

Axes: B batch, L length, D features.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, UInt32

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
    if groups is None:
      return super().__call__(inputs, deterministic, rng)
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
    rows, _, features = inputs.shape
    drawn = jax.random.bits(rng, (rows, 1, features), jnp.uint32)
    mixed = mix(
      drawn ^ groups.astype(jnp.uint32)[..., None] * jnp.uint32(_SPREAD)
    )
    kept = mixed < jnp.uint32(round(keep * 2**32))
    return jnp.where(kept, inputs / keep, jnp.zeros_like(inputs))


def mix(bits: UInt32[Array, '*B']) -> UInt32[Array, '*B']:
  """Returns numbers of which every bit depends on every bit of the given ones.

  It maps the 32-bit numbers one to one, with the shifts and factors that
  MurmurHash3 ends with.
  """
  bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
  bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
  return bits ^ (bits >> 16)
