"""Conversion between layers stored one by one and layers stacked.

A network that scans its layers keeps a parameter of all layers of a stack in
one array with the layers along axis 0. Names say which form it is:

  unstacked: encoder/layers_0/mlp/wo/kernel [F, D], encoder/layers_1/…, …
  stacked:   encoder/layers/mlp/wo/kernel [layers, F, D]

The optimizer's state for a parameter follows the parameter. An unused slot of
Adafactor has shape (1,) in both forms.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import flax.traverse_util
import numpy as np

from t5x import state_utils
from t5x.checkpoints.formats import lazy_array
from t5x.checkpoints.formats.lazy_array import LazyArray
from t5x.errors import UserError

_ONE_LAYER = re.compile(r'((?:.*/)?layers)_(\d+)/(.+)')
_ALL_LAYERS = re.compile(r'((?:.*/)?layers)/(.+)')


def is_stacked(names: Iterable[str]) -> bool | None:
  """Whether names, joined by '/', are of stacked layers; None if neither."""
  forms = set()
  for name in names:
    if _ONE_LAYER.fullmatch(name):
      forms.add(False)
    elif _ALL_LAYERS.fullmatch(name):
      forms.add(True)
  return forms.pop() if len(forms) == 1 else None


def match(
  state: Mapping[str, Any], model_state: Mapping[str, Any]
) -> Mapping[str, Any]:
  """Returns a checkpoint with its layers stacked, or not, as in a model.

  Args:
    state: the opened checkpoint, nested; leaves are arrays or `LazyArray`.
    model_state: the model's; only its names count.

  Returns:
    `state` itself if it has the model's form already (or none); otherwise
    nested dicts with `LazyArray`s in place of the layers. Nothing is read.

  Raises:
    UserError: layers of one stack differ in shape.
  """
  flat = state_utils.flatten_state_dict(state)
  flat = {name: leaf for name, leaf in flat.items() if leaf is not None}
  wanted = is_stacked(state_utils.flatten_state_dict(model_state))
  stored = is_stacked(flat)
  if wanted is None or stored is None or wanted == stored:
    return state
  flat = stack(flat) if wanted else unstack(flat)
  return flax.traverse_util.unflatten_dict(flat, sep='/')


def stack(flat: Mapping[str, Any]) -> dict[str, Any]:
  """Joins `…/layers_<i>/…` for i = 0, 1, … into `…/layers/…`."""
  groups: dict[str, dict[int, LazyArray]] = {}
  out = {}
  for name, leaf in flat.items():
    if parts := _ONE_LAYER.fullmatch(name):
      group = groups.setdefault(f'{parts[1]}/{parts[3]}', {})
      group[int(parts[2])] = lazy_array.as_lazy(name, leaf)
    else:
      out[name] = leaf
  for name, group in groups.items():
    layers = [group[i] for i in sorted(group)]
    _check(name, sorted(group), layers)
    unused_slot = layers[0].shape == (1,)
    out[name] = layers[0] if unused_slot else _join(layers)
  return out


def _check(name: str, numbers: list[int], layers: list[LazyArray]) -> None:
  where = layers[0].name
  if numbers != list(range(len(numbers))):
    raise UserError(
      f'{where}: the layers of {name} cannot be stacked: expected the layers 0'
      f' to {len(numbers) - 1}, found {numbers}. The checkpoint lacks layers;'
      ' take a complete one.'
    )
  if len({layer.shape for layer in layers}) > 1:
    shapes = [layer.shape for layer in layers]
    raise UserError(
      f'{where}: the layers of {name} cannot be stacked: expected layers of one'
      f' shape, found {shapes}. Set T5Config.scan_layers = False.'
    )


def _join(layers: list[LazyArray]) -> LazyArray:
  first = layers[0]
  layers = [layer.astype(first.dtype) for layer in layers]

  def start_read(index):
    layer_slice, *rest = index
    shape = [s.stop - s.start for s in rest]

    def join(*rows):
      # A host may hold no layer at all.
      return np.stack(rows) if rows else np.zeros((0, *shape))

    reads = [layer.start_read(tuple(rest)) for layer in layers[layer_slice]]
    return lazy_array.DerivedRead(join, *reads)

  return LazyArray(
    first.name, (len(layers), *first.shape), first.dtype, start_read
  )


def unstack(flat: Mapping[str, Any]) -> dict[str, Any]:
  """Splits `…/layers/…` into `…/layers_<i>/…`."""
  parts_of = {name: _ALL_LAYERS.fullmatch(name) for name in flat}
  counts = {
    _stack_of(parts): np.shape(flat[name])[0]
    for name, parts in parts_of.items()
    if parts and len(np.shape(flat[name])) > 1
  }
  out = {}
  for name, parts in parts_of.items():
    if not parts:
      out[name] = flat[name]
      continue
    leaf = lazy_array.as_lazy(name, flat[name])
    unused_slot = leaf.shape == (1,)
    count = counts.get(_stack_of(parts), 0) if unused_slot else leaf.shape[0]
    for i in range(count):
      layer = leaf if unused_slot else _layer(leaf, i)
      out[f'{parts[1]}_{i}/{parts[2]}'] = layer
  return out


def _stack_of(parts: re.Match[str]) -> str:
  """Returns 'encoder' for 'target/encoder/layers/mlp/…'."""
  return ('/' + parts[1]).split('/')[-2]


def _layer(leaf: LazyArray, i: int) -> LazyArray:
  def start_read(index):
    rows = leaf.start_read((slice(i, i + 1), *index))
    return lazy_array.DerivedRead(lambda layer: layer[0], rows)

  return LazyArray(f'{leaf.name}[{i}]', leaf.shape[1:], leaf.dtype, start_read)
