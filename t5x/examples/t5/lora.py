"""Low-rank adapters of linear maps (LoRA, arXiv:2106.09685).

A map of x by a kernel W becomes one by W + (alpha / rank) * A @ B, whose second
part has few parameters. It is not added to W: products with A and B take their
own way, so that neither the sum nor its gradient are ever in memory.

Axes: D inputs of the map, R rank, F outputs.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen import partitioning
from jaxtyping import Array, Float

# The adapter's name in the map's scope: `…/query/lora/a` and `…/query/lora/b`
# beside `…/query/kernel`.
NAME = 'lora'
_RANK_AXIS = 'lora_rank'

Product = Callable[[jax.Array, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Lora:
  """Which maps have adapters, and what they are like.

  Attributes:
    rank: R.
    alpha: by which, divided by R, the adapter's part is multiplied.
    dropout_rate: of the adapter's inputs; a feature is left out of all
      positions of a row at once.
    kernels: names of the maps, such as 'query'.
  """

  rank: int
  alpha: float
  dropout_rate: float
  kernels: tuple[str, ...]

  @property
  def scale(self) -> float:
    """What A @ B is multiplied by."""
    return self.alpha / self.rank


class Adapter(nn.Module):
  """The low-rank part of a map; 0 until it is trained.

  Attributes:
    lora: what it is like.
    axes: logical names of D and F.
    dtype: of the products.
  """

  lora: Lora
  axes: tuple[str, str]
  dtype: jax.typing.DTypeLike

  @nn.compact
  def __call__(
    self,
    x: Float[Array, '*B D'],
    features: int,
    products: tuple[Product, Product],
    deterministic: bool,
  ) -> Float[Array, '*B F']:
    """Applies it.

    Args:
      x: the inputs of the map.
      features: F.
      products: what multiplies by A, and by B.
      deterministic: True turns dropout off.
    """
    inner, outer = self.axes
    a = partitioning.param_with_axes(
      'a',
      # Between -1 / sqrt(D) and 1 / sqrt(D), as peft draws them.
      nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform'),
      (x.shape[-1], self.lora.rank),
      jnp.float32,
      axes=(inner, _RANK_AXIS),
    )
    b = partitioning.param_with_axes(
      'b',
      nn.initializers.zeros,
      (self.lora.rank, features),
      jnp.float32,
      axes=(_RANK_AXIS, outer),
    )
    x = nn.Dropout(self.lora.dropout_rate, broadcast_dims=(-2,))(
      x, deterministic=deterministic
    )
    by_a, by_b = products
    low = by_a(x, a.astype(self.dtype)) * self.lora.scale
    return by_b(low.astype(self.dtype), b.astype(self.dtype))


def axes_of(kernel_axes: tuple[str, ...], contracted: int) -> tuple[str, str]:
  """Returns logical names of the two axes of a kernel as a matrix.

  `(('embed', 'heads', 'kv'), 1)` → `('embed', 'joined_kv')`.

  Args:
    kernel_axes: names of all of its axes.
    contracted: how many of them are contracted; they come first.
  """
  inner, outer = kernel_axes[:contracted], kernel_axes[contracted:]
  if len(kernel_axes) == 2:
    inner, outer = kernel_axes[:1], kernel_axes[1:]

  def joined(names):
    return names[0] if len(names) == 1 else 'joined_kv'

  return joined(inner), joined(outer)
