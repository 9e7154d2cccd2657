"""Layers one after the other: unrolled or in a loop, rematerialised or not.

A layer is a module `Layer(config, relative_embedding)` that maps the residual
stream, its first argument, to the next one; all layers get the same further
arguments, relative position biases among them.
"""

import functools
import inspect
from typing import Any

import jax
from flax import linen as nn
from flax.linen import partitioning

from t5x.examples.t5.config import REMAT_POLICIES, T5Config

# Arguments of a layer that are Python values and not arrays.
_STATIC = ('deterministic', 'decode', 'max_decode_length')

Layers = list[nn.Module] | nn.Module


def make(layer_cls: type[nn.Module], config: T5Config, count: int) -> Layers:
  """Returns `count` layers, to be bound to an attribute in `setup`.

  Args:
    layer_cls: class of a layer.
    config: `scan_layers` and `remat_policy` count.
    count: how many.

  Returns:
    A list of modules; or one module that is all of them, whose variables have
    a first axis, named 'layers'.
  """
  layer_cls = _layer_class(
    layer_cls, config.scan_layers, config.remat_policy, count
  )
  if config.scan_layers:
    return layer_cls(config, None)
  return [layer_cls(config, None) for _ in range(count)]


def run(layers: Layers, x: jax.Array, *args: Any) -> jax.Array:
  """Applies layers from `make` one after the other.

  Args:
    layers: the layers.
    x: the residual stream.
    *args: further arguments of every layer.
  """
  if isinstance(layers, nn.Module):
    x, _ = layers(x, *args)
    return x
  for layer in layers:
    x = layer(x, *args)
  return x


def _layer_class(layer_cls, scan: bool, remat_policy: str, count: int):
  # Not cached: flax looks, here and now, whether axes are being recorded.
  if scan:
    layer_cls = _carrying(layer_cls)
  if remat_policy != 'none':
    names = list(inspect.signature(layer_cls.__call__).parameters)
    layer_cls = nn.remat(
      layer_cls,
      policy=REMAT_POLICIES[remat_policy],
      # A loop keeps the compiler from merging the two computations already.
      prevent_cse=not scan,
      static_argnums=tuple(names.index(n) for n in _STATIC if n in names),
    )
  if scan:
    layer_cls = partitioning.scan_with_axes(
      layer_cls,
      variable_axes={
        'params': 0,
        'cache': 0,
        'encoded_cache': 0,
        'intermediates': 0,
      },
      split_rngs={'params': True, 'dropout': True},
      in_axes=nn.broadcast,
      length=count,
      axis_name='layers',
    )
  return layer_cls


def _carrying(layer_cls: type[nn.Module]) -> type[nn.Module]:
  """The class with what a loop wants: (what goes on, what is collected)."""

  class Carrying(layer_cls):
    @functools.wraps(layer_cls.__call__)
    def __call__(self, *args):
      return super().__call__(*args), None

  return Carrying
