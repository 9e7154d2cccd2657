"""Trees of arrays with their layers stacked, or one by one."""

import flax.traverse_util

from t5x.checkpoints.formats import layer_stacks
from t5x.checkpoints.formats.lazy_array import LazyArray


def stacked(tree):
  return _on_host(layer_stacks.stack, tree)


def unstacked(tree):
  return _on_host(layer_stacks.unstack, tree)


def _on_host(change, tree):
  flat = flax.traverse_util.flatten_dict(tree, sep='/')
  return flax.traverse_util.unflatten_dict(
    {
      name: leaf.get() if isinstance(leaf, LazyArray) else leaf
      for name, leaf in change(flat).items()
    },
    sep='/',
  )
