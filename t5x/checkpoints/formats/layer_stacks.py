"""Conversion between layers stored one by one and layers stacked.

A network that scans its layers keeps a parameter of all layers of a stack in
one array. Names say which form it is, the shapes of norms which axis is the
layer:

  one by one: encoder/layers_0/mlp/wo/kernel [F, D], encoder/layers_1/…, …
  layers:     encoder/layers/mlp/wo/kernel [layers, F, D]
  named:      encoder/encoder/mlp/wo/kernel [F, layers, D], as in scalable_t5

The optimizer's state for a parameter follows the parameter. An unused slot of
Adafactor has shape (1,) in all forms. Heads of attention are joined or split as
the model has them (see `attention_heads`).
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.traverse_util
import numpy as np

from t5x import state_utils
from t5x.checkpoints.formats import attention_heads, lazy_array
from t5x.checkpoints.formats.lazy_array import LazyArray
from t5x.errors import UserError


class Form(NamedTuple):
  """How layers are stored.

  Attributes:
    kind: 'one by one', 'layers' or 'named'.
    axis: which axis of stacked parameters is the layer.
  """

  kind: str
  axis: int = 0


_LAYERS = Form('layers')
# Names of leaves: what is before the stack's part, the stack's, the layer's.
_NAMES = {
  'one by one': re.compile(r'((?:.*/)?)layers_(\d+)/(.+)'),
  'layers': re.compile(r'((?:.*/)?)(layers)/(.+)'),
  'named': re.compile(r'((?:.*/)?(?=(encoder|decoder)/)\2/)\2/(.+)'),
}
_DEFAULT_AXIS = {'one by one': 0, 'layers': 0, 'named': 1}
# A norm of every layer, of the same width as the final norm of its stack.
_NORM = 'pre_mlp_layer_norm/scale'


def form_of(flat: Mapping[str, Any]) -> Form | None:
  """Returns how layers are stored; None if there are none, or several forms.

  Args:
    flat: leaves by their names, joined by '/'.
  """
  kinds = {
    kind
    for name in flat
    for kind, pattern in _NAMES.items()
    if pattern.fullmatch(name)
  }
  if len(kinds) != 1:
    return None
  (kind,) = kinds
  axis = _DEFAULT_AXIS[kind]
  for name, leaf in flat.items():
    parts = _NAMES[kind].fullmatch(name)
    if kind == 'one by one' or not parts or parts[3] != _NORM:
      continue
    shape = _shape(leaf)
    final = _shape(flat.get(f'{parts[1]}{_stack_of(parts)}_norm/scale'))
    if len(final) == 1 and shape and final[0] in shape and len({*shape}) == 2:
      axis = 1 - shape.index(final[0])
  return Form(kind, axis)


def _shape(leaf: Any) -> tuple[int, ...]:
  return tuple(getattr(leaf, 'shape', ()))


def _stack_of(parts: re.Match[str]) -> str:
  """Returns 'encoder' for 'target/encoder/layers/mlp/…'."""
  return ('/' + parts[1]).split('/')[-2]


def match(
  state: Mapping[str, Any], model_state: Mapping[str, Any]
) -> Mapping[str, Any]:
  """Returns a checkpoint with its layers stacked, or not, as in a model.

  Args:
    state: the opened checkpoint, nested; leaves are arrays or `LazyArray`.
    model_state: the model's; names count, and shapes where leaves have some.

  Returns:
    `state` itself if it has the model's form already (or none); otherwise
    nested dicts with `LazyArray`s in place of the layers. Nothing is read.

  Raises:
    UserError: layers of one stack differ in shape.
  """
  flat = state_utils.flatten_state_dict(state)
  flat = {name: leaf for name, leaf in flat.items() if leaf is not None}
  model = state_utils.flatten_state_dict(model_state)
  wanted, stored = form_of(model), form_of(flat)
  if wanted is None or stored is None:
    return state
  if wanted == stored and not _heads_differ(flat, model):
    return state
  shapes = _layer_shapes(model, wanted)
  flat = {
    name: attention_heads.fitted(name, leaf, shapes[name])
    if name in shapes
    else leaf
    for name, leaf in unstack(flat).items()
  }
  if wanted.kind != 'one by one':
    flat = stack(flat, wanted, _axes(model, wanted))
  return flax.traverse_util.unflatten_dict(flat, sep='/')


def _heads_differ(flat: Mapping[str, Any], model: Mapping[str, Any]) -> bool:
  return any(
    name in model
    and attention_heads.is_kernel(name)
    and len(_shape(leaf)) != len(_shape(model[name]))
    for name, leaf in flat.items()
  )


def _layer_shapes(
  flat: Mapping[str, Any], form: Form
) -> dict[str, tuple[int, ...]]:
  """Returns the shapes of leaves of single layers, stored one by one."""
  pattern = _NAMES[form.kind]
  parts_of = {name: pattern.fullmatch(name) for name in flat}
  if form.kind == 'one by one':
    return {name: _shape(flat[name]) for name in flat if parts_of[name]}
  shapes: dict[str, tuple[int, ...]] = {}
  for name, axis in _axes(flat, form).items():
    parts, shape = parts_of[name], _shape(flat[name])
    if parts and len(shape) > axis and shape != (1,):
      one = (*shape[:axis], *shape[axis + 1 :])
      for i in range(shape[axis]):
        shapes[f'{parts[1]}layers_{i}/{parts[3]}'] = one
  return shapes


def _axes(flat: Mapping[str, Any], form: Form) -> dict[str, int]:
  """Returns which axis is the layer, for each leaf of stacked layers.

  What Adafactor keeps of a parameter lacks some of its axes. The axis of layers
  is in its place if the one before it is there.
  """
  pattern = _NAMES[form.kind]
  parts_of = {n: p for n in flat if (p := pattern.fullmatch(n))}
  parameters = {
    (_stack_of(parts), parts[3]): _shape(flat[name])
    for name, parts in parts_of.items()
    if not name.startswith('state/')
  }
  axes = {}
  for name, parts in parts_of.items():
    shape, of = _shape(flat[name]), _stack_of(parts)
    slot_of = parts[3].rpartition('/')[0]
    whole = parameters.get((of, parts[3])) or parameters.get((of, slot_of))
    in_place = len(shape) > 1 and (whole is None or shape[:2] == whole[:2])
    axes[name] = form.axis if in_place else 0
  return axes


def stack(
  flat: Mapping[str, Any],
  form: Form = _LAYERS,
  axes: Mapping[str, int] | None = None,
) -> dict[str, Any]:
  """Joins `…/layers_<i>/…` for i = 0, 1, … into one array each.

  Args:
    flat: leaves by their names.
    form: the form to make.
    axes: which axis is to be the layer, by the names that are made, where it
      is not the form's.
  """
  groups: dict[str, dict[int, LazyArray]] = {}
  out = {}
  for name, leaf in flat.items():
    if parts := _NAMES['one by one'].fullmatch(name):
      stack_name = _stack_of(parts) if form.kind == 'named' else 'layers'
      group = groups.setdefault(f'{parts[1]}{stack_name}/{parts[3]}', {})
      group[int(parts[2])] = lazy_array.as_lazy(name, leaf)
    else:
      out[name] = leaf
  for name, group in groups.items():
    layers = [group[i] for i in sorted(group)]
    _check(name, sorted(group), layers)
    unused_slot = layers[0].shape == (1,)
    axis = (axes or {}).get(name, form.axis)
    out[name] = layers[0] if unused_slot else _join(layers, axis)
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


def _join(layers: list[LazyArray], axis: int) -> LazyArray:
  first = layers[0]
  layers = [layer.astype(first.dtype) for layer in layers]

  def start_read(index):
    rest = (*index[:axis], *index[axis + 1 :])
    shape = [s.stop - s.start for s in rest]

    def join(*rows):
      # A host may hold no layer at all.
      none = np.zeros((*shape[:axis], 0, *shape[axis:]))
      return np.stack(rows, axis) if rows else none

    reads = [layer.start_read(rest) for layer in layers[index[axis]]]
    return lazy_array.DerivedRead(join, *reads)

  shape = (*first.shape[:axis], len(layers), *first.shape[axis:])
  return LazyArray(first.name, shape, first.dtype, start_read)


def unstack(flat: Mapping[str, Any]) -> dict[str, Any]:
  """Splits leaves of stacked layers into `…/layers_<i>/…`."""
  form = form_of(flat)
  if form is None or form.kind == 'one by one':
    return dict(flat)
  axes = _axes(flat, form)
  parts_of = {name: _NAMES[form.kind].fullmatch(name) for name in flat}
  counts = {
    _stack_of(parts): _shape(flat[name])[axes[name]]
    for name, parts in parts_of.items()
    if parts and len(_shape(flat[name])) > 1
  }
  out = {}
  for name, parts in parts_of.items():
    if not parts:
      out[name] = flat[name]
      continue
    leaf = lazy_array.as_lazy(name, flat[name])
    unused_slot = leaf.shape == (1,)
    axis = axes[name]
    count = leaf.shape[axis]
    if unused_slot:
      count = counts.get(_stack_of(parts), 0)
    for i in range(count):
      layer = leaf if unused_slot else _layer(leaf, i, axis)
      out[f'{parts[1]}layers_{i}/{parts[3]}'] = layer
  return out


def _layer(leaf: LazyArray, i: int, axis: int) -> LazyArray:
  def start_read(index):
    at = (*index[:axis], slice(i, i + 1), *index[axis:])
    return lazy_array.DerivedRead(
      lambda layer: layer.squeeze(axis), leaf.start_read(at)
    )

  shape = (*leaf.shape[:axis], *leaf.shape[axis + 1 :])
  return LazyArray(f'{leaf.name}[{i}]', shape, leaf.dtype, start_read)
