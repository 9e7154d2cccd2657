"""Multi-head attention of T5, with a cache for decoding.

Axes: B batch, Q query length, L key length, T length of the cache, D embedding,
H heads, K head size.
"""

import functools
import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen import partitioning
from jax import ad_checkpoint, lax
from jaxtyping import Array, Float

from t5x import errors
from t5x.examples.t5 import attention_kernel, dense, masks
from t5x.examples.t5 import lora as lora_lib

# Added to the logits of masked pairs. A query that may see nothing gets equal
# weights on all keys, not NaN.
_MASKED = -1e10


def dot_product_attention(
  query: Float[Array, 'B Q H K'],
  key: Float[Array, 'B L H K'],
  value: Float[Array, 'B L H K'],
  bias: Float[Array, '#B #H #Q L'] | None = None,
  dropout_rng: jax.Array | None = None,
  dropout_rate: float = 0.0,
  deterministic: bool = False,
  dtype: dense.DType = jnp.float32,
  float32_logits: bool = False,
  mask: Array | None = None,
) -> Float[Array, 'B Q H K']:
  """Softmax attention without scaling, as T5 defines it.

  Args:
    query: queries.
    key: keys.
    value: values.
    bias: added to the attention logits.
    dropout_rng: key of the dropout; needed where dropout is on.
    dropout_rate: rate at which whole keys are dropped, for all queries of a
      head at once (T5 broadcasts the dropout over the query axis).
    deterministic: True turns dropout off.
    dtype: type of the operands and of the result.
    float32_logits: logits in float32 (sums included), not `dtype`; the softmax
      is always in float32.
    mask: broadcastable to [B, H, Q, L]; pairs that are 0 or False are masked.

  Returns:
    For each query the weighted mean of the values.

  Raises:
    ValueError: if ranks or lengths differ, or dropout has no key.
  """
  if not query.ndim == key.ndim == value.ndim or key.shape != value.shape:
    raise ValueError(
      'dot_product_attention: expected query [B, Q, H, K] and key, value'
      f' [B, L, H, K], found {query.shape}, {key.shape}, {value.shape}.'
    )
  if not deterministic and dropout_rate > 0.0:
    value = _drop_keys(value, dropout_rng, dropout_rate, 'bkhd')
  return _attend(
    query, key, value, bias, mask, dtype, float32_logits, kv_axes='bkhd'
  )


def _drop_keys(value, dropout_rng, dropout_rate, kv_axes):
  """Dropout of attention weights, applied to the values.

  A weight that is dropped for all queries of a head at once is a value that is
  dropped for this head: the same mean, with L * H numbers touched per row
  instead of Q * L * H, and no second copy of the weights for the backward pass.
  """
  if dropout_rng is None:
    raise ValueError(
      'dot_product_attention: dropout_rate > 0 needs a dropout_rng; pass one,'
      ' or deterministic=True.'
    )
  keep = 1.0 - dropout_rate
  shape = list(value.shape)
  shape[kv_axes.index('d')] = 1
  kept = jax.random.bernoulli(dropout_rng, keep, shape)
  return value * (kept / keep).astype(value.dtype)


def _attend(query, key, value, bias, mask, dtype, float32_logits, kv_axes):
  """Attention over keys and values whose axes are `kv_axes`.

  kv_axes: 'bkhd' as projected, 'bhdk' as cached.
  """
  query, key, value = (x.astype(dtype) for x in (query, key, value))
  return _attention(query, key, value, bias, mask, float32_logits, kv_axes)


def _check_lengths(queries, keys):
  """Raises a UserError where NVIDIA's kernel has no gradient.

  To JAX, a mask is a bias.
  """
  if queries % 2 or keys % 2:
    raise errors.UserError(
      "T5Config.attention_kernel: 'cudnn' trains with biases and masks of even"
      f' lengths, found {queries} queries and {keys} keys; set'
      " TASK_FEATURE_LENGTHS to even ones, or attention_kernel = 'xla'."
    )


def _attend_in_one_kernel(
  query, key, value, bias, mask, dtype, implementation='cudnn'
):
  """Attention by a kernel that has its weights in no memory but its own.

  Args:
    query: [B, Q, H, K].
    key: [B, L, H, K].
    value: as key, with dropout's zeros.
    bias: as in `dot_product_attention`; None for none.
    mask: as in `dot_product_attention`; None for none.
    dtype: type to compute in; logits and softmax are of float32.
    implementation: of `jax.nn.dot_product_attention`.

  Raises:
    UserError: there is no such GPU.
  """
  if implementation == 'cudnn' and jax.default_backend() != 'gpu':
    raise errors.UserError(
      "T5Config.attention_kernel: 'cudnn' needs a GPU of NVIDIA, found"
      f" {jax.default_backend()!r}; set attention_kernel = 'xla', or leave out"
      ' gin/engine/cudnn.gin.'
    )
  query, key, value = (x.astype(dtype) for x in (query, key, value))
  attended = jax.nn.dot_product_attention(
    *(query, key, value),
    None if bias is None else bias.astype(dtype),
    None if mask is None else mask > 0,
    scale=1.0,
    implementation=implementation,
  )
  return ad_checkpoint.checkpoint_name(attended, dense.PRODUCT)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def _attention(query, key, value, bias, mask, float32_logits, kv_axes):
  """Attention whose arguments are of the type that it computes in.

  The softmax is computed in float32. The backward pass computes the weights
  again, since that takes less time than to write them to memory and to read
  them. The mean over the weights that a softmax's gradient subtracts is that of
  the result's numbers with their gradients, K numbers a query in place of L.
  """
  return _attention_fwd(query, key, value, bias, mask, float32_logits, kv_axes)[
    0
  ]


def _attention_fwd(query, key, value, bias, mask, float32_logits, kv_axes):
  logits = _logits(query, key, bias, mask, float32_logits, kv_axes)
  most = jnp.max(logits, axis=-1, keepdims=True)
  shares = jnp.exp(logits - most)
  total = jnp.sum(shares, axis=-1, keepdims=True)
  weights = (shares / total).astype(query.dtype)
  attended = jnp.einsum(f'bhqk,{kv_axes}->bqhd', weights, value)
  # Named here, since what is named outside is another value to a policy than
  # the one that is saved.
  attended = ad_checkpoint.checkpoint_name(attended, dense.PRODUCT)
  # Not the sum's logarithm, which is lost beside the logits of a query that may
  # see nothing.
  saved = (query, key, value, bias, mask, most, total, attended)
  return attended, saved


def _logits(query, key, bias, mask, float32_logits, kv_axes):
  """Returns biased and masked logits in float32, of the type's precision."""
  logits = jnp.einsum(
    f'bqhd,{kv_axes}->bhqk',
    query,
    key,
    preferred_element_type=jnp.float32 if float32_logits else None,
  )
  if bias is not None:
    logits = logits + bias.astype(logits.dtype)
  if mask is not None:
    logits = jnp.where(mask > 0, logits, jnp.asarray(_MASKED, logits.dtype))
  return logits.astype(jnp.float32)


def _attention_bwd(float32_logits, kv_axes, saved, cotangent):
  query, key, value, bias, mask, most, total, attended = saved
  dtype = query.dtype
  # Or else a compiler takes the logits of the forward pass, and keeps them.
  query, key, value, cotangent = lax.optimization_barrier(
    (query, key, value, cotangent)
  )
  logits = _logits(query, key, bias, mask, float32_logits, kv_axes)
  weights = jnp.exp(logits - most) / total
  grad_value = jnp.einsum(
    f'bhqk,bqhd->{kv_axes}', weights.astype(dtype), cotangent
  )
  mean = jnp.sum(
    cotangent.astype(jnp.float32) * attended.astype(jnp.float32), axis=-1
  )
  change = jnp.einsum(
    f'bqhd,{kv_axes}->bhqk',
    cotangent,
    value,
    preferred_element_type=jnp.float32,
  )
  change = weights * (change - jnp.swapaxes(mean, 1, 2)[..., None])
  if mask is not None:
    change = jnp.where(mask > 0, change, 0.0)
  change = change.astype(dtype)
  grad_bias = None
  if bias is not None:
    # It may have fewer axes, which count from the last.
    full = (1,) * (4 - bias.ndim) + bias.shape
    axes = [i for i in range(4) if full[i] != change.shape[i]]
    grad_bias = jnp.sum(change.astype(jnp.float32), axes, keepdims=True)
    grad_bias = grad_bias.reshape(bias.shape).astype(bias.dtype)
  grad_query = jnp.einsum(f'bhqk,{kv_axes}->bqhd', change, key)
  grad_key = jnp.einsum(f'bhqk,bqhd->{kv_axes}', change, query)
  return grad_query, grad_key, grad_value, grad_bias, None


_attention.defvjp(_attention_fwd, _attention_bwd)


def _scaled_query_init(
  kernel_init: dense.Initializer, head_dim: int
) -> dense.Initializer:
  # T5 does not scale the logits of attention; the queries start smaller.
  def init(*args, **kwargs):
    return kernel_init(*args, **kwargs) / math.sqrt(head_dim)

  return init


class MultiHeadDotProductAttention(nn.Module):
  """Multi-head attention of T5, with a cache for decoding.

  With `decode=True` the module keeps `cached_key` and `cached_value`
  [B, H, K, T] and `cache_index` (the number of positions already written) in
  the collection 'cache'. The call that creates them fixes T, the length of its
  inputs. Later calls append their keys and values to those already there and
  attend to all of them.

  Cross attention can take its keys and values from the collection
  'encoded_cache' (see `cache_encoded`), so that they are projected once and
  not at every step.

  Attributes:
    num_heads: H.
    head_dim: K.
    dtype: type of the activations.
    dropout_rate: dropout of the attention weights.
    kernel_init: initializer of the projections; the query's is divided by
      sqrt(K).
    float32_logits: see `dot_product_attention`.
    kernel: 'xla', 'cudnn' or 'pallas'; see `T5Config.attention_kernel`. The
      last computes what comes with a `masks.SegmentMask`, and 'xla' the rest.
    joined_kernels: whether kernels are matrices, [D, H * K] and [H * K, D], or
      keep an axis each, [D, H, K] and [H, K, D].
    param_dtype: type of the kernels.
    lora: see `dense.DenseGeneral`.
  """

  num_heads: int
  head_dim: int
  dtype: dense.DType = jnp.float32
  dropout_rate: float = 0.0
  kernel_init: dense.Initializer = dense.default_kernel_init
  float32_logits: bool = False
  kernel: str = 'xla'
  joined_kernels: bool = True
  param_dtype: dense.DType = jnp.float32
  lora: lora_lib.Lora | None = None

  @property
  def _head_axes(self) -> tuple[str, ...]:
    return ('joined_kv',) if self.joined_kernels else ('heads', 'kv')

  def setup(self):
    project = functools.partial(
      dense.DenseGeneral,
      features=(self.num_heads, self.head_dim),
      dtype=self.dtype,
      kernel_axes=('embed', *self._head_axes),
      param_dtype=self.param_dtype,
      lora=self.lora,
    )
    self.query = project(
      kernel_init=_scaled_query_init(self.kernel_init, self.head_dim)
    )
    self.key = project(kernel_init=self.kernel_init)
    self.value = project(kernel_init=self.kernel_init)

  @nn.compact
  def __call__(
    self,
    inputs_q: Float[Array, 'B Q D'],
    inputs_kv: Float[Array, 'B2 L D'],
    mask: Array | masks.SegmentMask | None = None,
    bias: Float[Array, '#B #H #Q L'] | Float[Array, 'H _'] | None = None,
    *,
    decode: bool = False,
    deterministic: bool = False,
  ) -> Float[Array, 'B Q D']:
    """Attends from inputs_q to inputs_kv.

    Args:
      inputs_q: where queries come from.
      inputs_kv: where keys and values come from. Its batch may be a divisor
        of B: each row then serves B / B2 successive rows of queries (the
        decodes of one input).
      mask: broadcastable to [B, H, Q, L]; 0 or False hides a pair. Or, for
        the kernel 'pallas' and without `decode`, a `masks.SegmentMask`.
      bias: added to the attention logits; with a `masks.SegmentMask` it is
        that of `RelativePositionBiases.diagonals`.
      decode: uses the cache; masks what is not written yet.
      deterministic: True turns dropout off.

    Returns:
      The attended values, projected back to D.
    """
    query = self._constrain(self.query(inputs_q, deterministic))
    kv_axes = 'bkhd'
    if self.has_variable('encoded_cache', 'key'):
      key: jax.Array = self.get_variable('encoded_cache', 'key')
      value: jax.Array = self.get_variable('encoded_cache', 'value')
      kv_axes = 'bhdk'
    else:
      key = self._constrain(self.key(inputs_kv, deterministic))
      value = self._constrain(self.value(inputs_kv, deterministic))
    if decode:
      if isinstance(mask, masks.SegmentMask):
        raise ValueError(
          'attention: expected the mask itself with decode=True, found its'
          ' segments, which are for whole sequences.'
        )
      initialized = self.has_variable('cache', 'cached_key')
      cached = self._extend_cache(key, value)
      # The result of the call that makes the cache is unused.
      if initialized:
        key, value, written = cached
        mask = masks.combine_masks(mask, written, dtype=jnp.bool_)
        kv_axes = 'bhdk'
    if not deterministic and self.dropout_rate > 0.0:
      rng = self.make_rng('dropout')
      value = _drop_keys(value, rng, self.dropout_rate, kv_axes)
    plain = bias is None and mask is None
    if self.kernel == 'cudnn' and not plain and not deterministic:
      _check_lengths(query.shape[1], key.shape[1])
    if isinstance(mask, masks.SegmentMask):
      x = self._attend_segments(query, key, value, bias, mask)
    else:
      x = self._attend_grouped(query, key, value, bias, mask, kv_axes)
    x = self._constrain(x)
    return dense.DenseGeneral(
      inputs_q.shape[-1],
      axis=(-2, -1),
      dtype=self.dtype,
      kernel_init=self.kernel_init,
      kernel_axes=(*self._head_axes, 'embed'),
      param_dtype=self.param_dtype,
      lora=self.lora,
      name='out',
    )(x, deterministic)

  def _constrain(self, x):
    return partitioning.with_sharding_constraint(
      x, ('batch', 'length', 'heads', 'kv')
    )

  def _attend_segments(self, query, key, value, diagonals, mask):
    if self.is_initializing():
      # Parameters don't depend on it, and are made on any machine.
      return query
    query, key, value = (x.astype(self.dtype) for x in (query, key, value))
    return attention_kernel.attend(
      query, key, value, diagonals, mask, self.float32_logits
    )

  def _attend_grouped(self, query, key, value, bias, mask, kv_axes):
    """Attends with each row of keys serving a group of rows of queries."""
    rows, length = query.shape[:2]
    group = rows // key.shape[0]
    if group * key.shape[0] != rows:
      raise ValueError(
        f'attention: expected the batch of the keys to divide that of the'
        f' queries, {rows}, found {key.shape[0]}.'
      )
    if group > 1:
      # The rows of a group become further queries of one row: the keys and
      # values are neither repeated in memory nor read more than once.
      query = query.reshape(key.shape[0], group * length, *query.shape[2:])
      mask = _group_rows(mask, rows, group, length)
      bias = _group_rows(bias, rows, group, length)
    if self.kernel == 'cudnn' and kv_axes == 'bkhd':
      x = _attend_in_one_kernel(query, key, value, bias, mask, self.dtype)
    else:
      x = _attend(
        query, key, value, bias, mask, self.dtype, self.float32_logits, kv_axes
      )
    return x.reshape(rows, length, *x.shape[2:])

  def _extend_cache(self, key, value):
    """Appends keys and values [B, Q, H, K] to the cached ones.

    Returns:
      All keys, all values, and which of them each query may see [1, 1, Q, T].
    """
    key, value = (jnp.moveaxis(x, 1, -1) for x in (key, value))
    is_new = not self.has_variable('cache', 'cached_key')
    keys = self.variable('cache', 'cached_key', jnp.zeros_like, key)
    values = self.variable('cache', 'cached_value', jnp.zeros_like, value)
    index = self.variable('cache', 'cache_index', jnp.zeros, (), jnp.int32)
    if is_new:
      return keys.value, values.value, None
    length, capacity = key.shape[-1], keys.value.shape[-1]
    if keys.value.shape[:-1] != key.shape[:-1] or length > capacity:
      raise ValueError(
        f'attention cache: expected keys [B, H, K, at most T] that fit'
        f' {keys.value.shape}, found {key.shape}; the cache must be made with'
        ' the batch that is decoded, one row for each decode.'
      )
    start = index.value
    keys.value = lax.dynamic_update_slice_in_dim(keys.value, key, start, -1)
    values.value = lax.dynamic_update_slice_in_dim(
      values.value, value, start, -1
    )
    index.value = start + length
    positions = start + jnp.arange(length)
    written = jnp.arange(capacity)[None, :] <= positions[:, None]
    return keys.value, values.value, written[None, None]

  def cache_encoded(self, inputs_kv: Float[Array, 'B L D']) -> None:
    """Puts the keys and values of inputs_kv into 'encoded_cache'."""
    for name, x in (
      ('key', self.key(inputs_kv)),
      ('value', self.value(inputs_kv)),
    ):
      x = jnp.moveaxis(self._constrain(x), 1, -1)
      self.put_variable('encoded_cache', name, x)

  def cache_position(self) -> tuple[jax.Array, int] | None:
    """Returns the cache's (positions written, capacity), if there is one."""
    if not self.has_variable('cache', 'cached_key'):
      return None
    keys: jax.Array = self.get_variable('cache', 'cached_key')
    return self.get_variable('cache', 'cache_index'), keys.shape[-1]


def _group_rows(x, rows, group, length):
  """Maps [B, H, Q, L] (any but L may be 1) to [B/group, H, group*Q, L]."""
  if x is None or (x.shape[0] == 1 and x.shape[2] == 1):
    return x
  batch, heads, _, keys = x.shape
  if batch == rows // group and x.shape[2] == 1:
    return x
  repeats = batch // (rows // group) if batch > 1 else 1
  x = x.reshape(-1, repeats, *x.shape[1:])
  x = jnp.broadcast_to(x, (x.shape[0], group, heads, length, keys))
  return jnp.swapaxes(x, 1, 2).reshape(x.shape[0], heads, -1, keys)
