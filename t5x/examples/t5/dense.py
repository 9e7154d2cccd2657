"""Linear maps, embedding, layer norm and feed-forward block of T5.

Axes: B batch, L length, D embedding, F mlp, V vocabulary. `param_dtype` is the
type of kernels and tables; scales and adapters are float32. `dtype` is that of
activations.
"""

import functools
import math
from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen import partitioning
from jax import ad_checkpoint, lax
from jaxtyping import Array, Float, Int

from t5x.examples.t5 import dropout, gating
from t5x.examples.t5 import lora as lora_lib

Initializer = Callable[..., jax.Array]
DType = jax.typing.DTypeLike
# The axis 'embed' of a kernel while products use it.
_GATHERED = 'gathered_embed'

# The name of products with kernels for rematerialization policies, which don't
# see the matrix products inside them.
PRODUCT = 'product'

default_kernel_init = nn.initializers.variance_scaling(
  1.0, 'fan_in', 'truncated_normal'
)
default_embedding_init = nn.initializers.variance_scaling(
  1.0, 'fan_in', 'normal', out_axis=0
)


@jax.custom_vjp
def float32_product(
  x: Float[Array, '*B D'], kernel: Float[Array, 'D V']
) -> Float[Array, '*B V']:
  """`x @ kernel` summed and returned in float32, whatever the operands.

  The cotangent is rounded to the operands' type for the two products of the
  backward pass, so that bfloat16 operands use fast matrix units there too.
  """
  return jnp.matmul(x, kernel, preferred_element_type=jnp.float32)


def _float32_product_fwd(x, kernel):
  return float32_product(x, kernel), (x, kernel)


def _float32_product_bwd(saved, cotangent):
  x, kernel = saved
  cotangent = cotangent.astype(x.dtype)
  leading = tuple(range(x.ndim - 1))
  grad_kernel = lax.dot_general(
    x,
    cotangent,
    ((leading, leading), ((), ())),
    preferred_element_type=jnp.float32,
  )
  grad_x = jnp.matmul(cotangent, kernel.T)
  return grad_x.astype(x.dtype), grad_kernel.astype(kernel.dtype)


float32_product.defvjp(_float32_product_fwd, _float32_product_bwd)


@jax.custom_vjp
def product(
  x: Float[Array, '*B D'], kernel: Float[Array, 'D F']
) -> Float[Array, '*B F']:
  """`x @ kernel`, with a gradient of the kernel that is fast on a CPU.

  On a CPU, XLA would write a transposed copy of what it computes elementwise
  before the product (an activation times a mask), column by column, which
  takes longer than many of the products.
  """
  return jnp.matmul(x, kernel)


def _product_fwd(x, kernel):
  return product(x, kernel), (x, kernel)


def _product_bwd(saved, cotangent):
  x, kernel = saved
  rows = x.reshape(-1, x.shape[-1])
  cotangent_rows = cotangent.reshape(-1, cotangent.shape[-1])
  grad_kernel = lax.platform_dependent(
    rows, cotangent_rows, cpu=_product_of_finished_rows, default=_row_product
  )
  return jnp.matmul(cotangent, kernel.T), grad_kernel


def _row_product(x, y):
  """Returns x.T @ y."""
  return lax.dot_general(x, y, (((0,), (0,)), ((), ())))


def _product_of_finished_rows(x, y):
  """Returns x.T @ y, with nothing fused into the operands."""
  return _row_product(*lax.optimization_barrier((x, y)))


product.defvjp(_product_fwd, _product_bwd)


def _as_tuple(x: Iterable[int] | int) -> tuple[int, ...]:
  return tuple(x) if isinstance(x, Iterable) else (x,)


def _as_used(kernel: jax.Array, axes: tuple[str, ...]) -> jax.Array:
  """Lays a kernel out as its products use it, where a rule says how."""
  if _GATHERED not in {name for name, _ in partitioning.get_axis_rules()}:
    return kernel
  used = tuple(_GATHERED if axis == 'embed' else axis for axis in axes)
  return partitioning.with_sharding_constraint(kernel, used)


class DenseGeneral(nn.Module):
  """Linear map of the axes `axis` to the axes `features`, without a bias.

  The kernel is stored as a matrix [prod(axis sizes), prod(features)], which is
  T5X's layout and lets an optimizer factor it. With more than two names in
  `kernel_axes` it is stored with all of its axes; its first values are the
  matrix's.

  Attributes:
    features: sizes of the output axes.
    axis: the input axes that are contracted; they must be the last ones.
    dtype: type of the product; `float32` results of lower-precision inputs are
      available through `float32_output`.
    kernel_init: initializer of the matrix.
    kernel_axes: logical names of the kernel's axes: the matrix's two, or one
      for each of `axis` and of `features`.
    float32_output: sums and returns the product of `dtype` operands in float32
      (for logits; one input and one output axis).
    param_dtype: type of the kernel, which is drawn in float32.
    lora: gives the map an adapter, if it names it. Its parameters are float32.
  """

  features: Iterable[int] | int
  axis: Iterable[int] | int = -1
  dtype: DType = jnp.float32
  kernel_init: Initializer = default_kernel_init
  kernel_axes: tuple[str, ...] = ()
  float32_output: bool = False
  param_dtype: DType = jnp.float32
  lora: lora_lib.Lora | None = None

  @nn.compact
  def __call__(
    self, inputs: Float[Array, '...'], deterministic: bool = True
  ) -> Float[Array, '...']:
    """Applies the map.

    Args:
      inputs: whose last axes are contracted.
      deterministic: True turns the adapter's dropout off.

    Raises:
      ValueError: if `axis` does not name the last axes in order.
    """
    features = _as_tuple(self.features)
    axis = tuple(a % inputs.ndim for a in _as_tuple(self.axis))
    kept = inputs.shape[: inputs.ndim - len(axis)]
    if axis != tuple(range(len(kept), inputs.ndim)):
      raise ValueError(
        f'DenseGeneral.axis: expected the last axes in order, found'
        f' {self.axis} for an input of shape {inputs.shape}; move the'
        ' contracted axes to the end.'
      )
    fan_in = math.prod(inputs.shape[len(kept) :])
    matrix = (fan_in, math.prod(features))
    stored: tuple[int, ...] = matrix
    if len(self.kernel_axes) > 2:
      stored = (*inputs.shape[len(kept) :], *features)
    kernel = partitioning.param_with_axes(
      'kernel',
      lambda key, dtype: (
        self.kernel_init(key, matrix, jnp.float32).reshape(stored).astype(dtype)
      ),
      self.param_dtype,
      axes=self.kernel_axes or None,
    )
    kernel = _as_used(kernel.astype(self.dtype), self.kernel_axes)
    kernel = kernel.reshape(matrix)
    x = inputs.astype(self.dtype).reshape(kept + (fan_in,))
    multiply = float32_product if self.float32_output else product
    y = multiply(x, kernel)
    if self.lora is not None and self.name in self.lora.kernels:
      axes = lora_lib.axes_of(self.kernel_axes, len(axis))
      adapter = lora_lib.Adapter(
        self.lora, axes, self.dtype, name=lora_lib.NAME
      )
      y += adapter(x, matrix[1], (product, multiply), deterministic)
    y = ad_checkpoint.checkpoint_name(y, PRODUCT)
    return y.reshape(kept + features)


class Embed(nn.Module):
  """A table of vectors, looked up by id or attended to by a vector.

  Attributes:
    num_embeddings: V, the rows.
    features: D, the columns.
    cast_input_dtype: ids are cast to it first, if given.
    dtype: type of the returned vectors.
    attend_dtype: type of the result of `attend`; None for `dtype`.
    embedding_init: initializer of the table.
    one_hot: looks up by a matrix product with one-hot ids (for a device where
      a gather is slow) and not by a gather. An id out of range gives NaN by
      gather, zeros by product.
    param_dtype: type of the table, which is drawn in float32.
  """

  num_embeddings: int
  features: int
  cast_input_dtype: DType | None = None
  dtype: DType = jnp.float32
  attend_dtype: DType | None = None
  embedding_init: Initializer = default_embedding_init
  one_hot: bool = False
  param_dtype: DType = jnp.float32

  def setup(self):
    shape = (self.num_embeddings, self.features)
    self.embedding = partitioning.param_with_axes(
      'embedding',
      lambda key, dtype: self.embedding_init(key, shape, jnp.float32).astype(
        dtype
      ),
      self.param_dtype,
      axes=('vocab', 'embed'),
    )

  def __call__(self, inputs: Int[Array, '*B']) -> Float[Array, '*B D']:
    """Returns the vectors of the ids.

    Raises:
      ValueError: if the ids are not integers.
    """
    if self.cast_input_dtype is not None:
      inputs = inputs.astype(self.cast_input_dtype)
    if not jnp.issubdtype(inputs.dtype, jnp.integer):
      raise ValueError(
        f'Embed: expected integer ids, found {inputs.dtype}; set'
        ' cast_input_dtype to convert them.'
      )
    if self.one_hot:
      ids = jax.nn.one_hot(inputs, self.num_embeddings, dtype=self.dtype)
      return ids @ self.embedding.astype(self.dtype)
    # The gather comes before the cast: the table is not copied, and the
    # gradient is summed in float32.
    return jnp.take(self.embedding, inputs, axis=0).astype(self.dtype)

  def attend(self, query: Float[Array, '*B D']) -> Float[Array, '*B V']:
    """Returns the inner product of each query with each vector.

    Operands are of `dtype`; with `attend_dtype=float32` the sums and the result
    are float32.
    """
    table = self.embedding.astype(self.dtype).T
    query = query.astype(self.dtype)
    out_dtype = jnp.dtype(self.attend_dtype or self.dtype)
    if out_dtype == jnp.float32:
      return float32_product(query, table)
    return (query @ table).astype(out_dtype)


class LayerNorm(nn.Module):
  """T5's layer norm: divides by the root mean square, no mean, no bias.

  The statistics are computed in float32.
  """

  epsilon: float = 1e-6
  dtype: DType = jnp.float32
  scale_init: Initializer = nn.initializers.ones

  @nn.compact
  def __call__(self, x: Float[Array, '*B D']) -> Float[Array, '*B D']:
    scale = partitioning.param_with_axes(
      'scale', self.scale_init, (x.shape[-1],), jnp.float32, axes=('embed',)
    )
    return _normed(x, scale, self.epsilon, self.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _normed(x, scale, epsilon, dtype):
  """Divides by the root mean square, and scales.

  For the backward pass waits the input as it is, not in float32, and one number
  a position.
  """
  return _normed_fwd(x, scale, epsilon, dtype)[0]


def _normed_fwd(x, scale, epsilon, dtype):
  wide = x.astype(jnp.float32)
  mean_square = jnp.mean(lax.square(wide), axis=-1, keepdims=True)
  factor = lax.rsqrt(mean_square + epsilon)
  y = (wide * factor).astype(dtype) * scale.astype(dtype)
  return y, (x, scale, factor)


def _normed_bwd(epsilon, dtype, saved, cotangent):
  del epsilon
  x, scale, factor = saved
  wide = x.astype(jnp.float32)
  unscaled = (wide * factor).astype(dtype).astype(jnp.float32)
  grad_scale = jnp.sum(
    cotangent.astype(jnp.float32) * unscaled, tuple(range(x.ndim - 1))
  )
  grad = (cotangent * scale.astype(dtype)).astype(jnp.float32)
  along = jnp.mean(grad * wide, axis=-1, keepdims=True)
  grad = factor * grad - wide * (factor**3 * along)
  return grad.astype(x.dtype), grad_scale


_normed.defvjp(_normed_fwd, _normed_bwd)


class MlpBlock(nn.Module):
  """The feed-forward block; several activations gate each other.

  `('relu',)` is T5 1.0's, `('gelu', 'linear')` T5 1.1's: every activation gets
  a projection of its own, and the results are multiplied.
  """

  intermediate_dim: int = 2048
  activations: Sequence[str | Callable] = ('relu',)
  kernel_init: Initializer = default_kernel_init
  intermediate_dropout_rate: float = 0.1
  dtype: DType = jnp.float32
  param_dtype: DType = jnp.float32
  lora: lora_lib.Lora | None = None

  @nn.compact
  def __call__(
    self,
    inputs: Float[Array, 'B L D'],
    decode: bool = False,
    deterministic: bool = False,
    dropout_groups: Int[Array, '#B L'] | None = None,
  ) -> Float[Array, 'B L D']:
    """Applies the block; `decode` makes no difference to it.

    Args:
      inputs: the normed residual stream.
      decode: whether one position is computed.
      deterministic: True turns dropout off.
      dropout_groups: see `dropout.Dropout`.
    """
    del decode  # Position-wise: one position is computed as many are.
    products = [
      DenseGeneral(
        self.intermediate_dim,
        dtype=self.dtype,
        kernel_init=self.kernel_init,
        kernel_axes=('embed', 'mlp'),
        param_dtype=self.param_dtype,
        lora=self.lora,
        name='wi' if len(self.activations) == 1 else f'wi_{i}',
      )(inputs, deterministic)
      for i in range(len(self.activations))
    ]
    x = gating.gated(self.activations, products)
    x = dropout.Dropout(self.intermediate_dropout_rate, broadcast_dims=(-2,))(
      x, deterministic=deterministic, groups=dropout_groups
    )
    x = partitioning.with_sharding_constraint(x, ('batch', 'length', 'mlp'))
    return DenseGeneral(
      inputs.shape[-1],
      dtype=self.dtype,
      kernel_init=self.kernel_init,
      kernel_axes=('mlp', 'embed'),
      param_dtype=self.param_dtype,
      lora=self.lora,
      name='wo',
    )(x, deterministic)
