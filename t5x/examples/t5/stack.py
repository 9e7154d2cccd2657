"""Stacks of layers: unrolled or in a loop, rematerialized or not.

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


def name(config: T5Config, of: str) -> str:
  """Returns the attribute that the layers of a stack are to be bound to.

  Args:
    config: its `scan_layers` and `scalable_names` matter.
    of: the stack, 'encoder' or 'decoder'.
  """
  return of if config.scan_layers and config.scalable_names else 'layers'


def make(layer_cls: type[nn.Module], config: T5Config, count: int) -> Layers:
  """Returns `count` layers, to be bound to an attribute in `setup`.

  Args:
    layer_cls: class of a layer.
    config: its `scan_layers`, `param_scan_axis` and `remat_policy` matter.
    count: how many.

  Returns:
    A list of modules; or one module that is all of them, whose variables have
    an axis more, named 'layers': the first, but for parameters.
  """
  # Not cached: flax checks during this call whether axes are being recorded.
  if config.scan_layers:
    layer_cls = _carrying(layer_cls)
  if config.remat_policy != 'none':
    names = list(inspect.signature(layer_cls.__call__).parameters)
    layer_cls = nn.remat(
      layer_cls,
      policy=REMAT_POLICIES[config.remat_policy],
      # A loop already keeps the compiler from merging the two computations.
      prevent_cse=not config.scan_layers,
      static_argnums=tuple(names.index(n) for n in _STATIC if n in names),
    )
  if config.scan_layers:
    layer_cls = partitioning.scan_with_axes(
      layer_cls,
      variable_axes={
        'params': config.param_scan_axis,
        'cache': 0,
        'encoded_cache': 0,
        'intermediates': 0,
      },
      split_rngs={'params': True, 'dropout': True},
      in_axes=nn.broadcast,
      length=count,
      axis_name='layers',
    )
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


def _carrying(layer_cls: type[nn.Module]) -> type[nn.Module]:
  """Returns the class with a loop's results: (carry, what is collected)."""

  # mypy has no notion of a base class that is an argument.
  class Carrying(layer_cls):  # type: ignore[valid-type, misc]
    @functools.wraps(layer_cls.__call__)
    def __call__(self, *args):
      return super().__call__(*args), None

  return Carrying
