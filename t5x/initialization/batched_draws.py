"""Batched random initialization, which compiles faster; same bits.

A T5 draws hundreds of matrices of a few shapes, each from its own key. XLA
compiles the generator anew for each key and each matrix, which takes longer
than the drawing. Here all keys are made at once, and matrices of one shape and
distribution become one loop over their keys. Each array remains the same
function of its own key, to the bit.
"""

import collections
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.interpreters import partial_eval

from t5x.initialization import threefry

# The largest batch, unless one array is larger: a batch is in memory twice for
# a moment, which matters to a model that hardly fits.
_MAX_BATCH_BYTES = 256 * 2**20
# Keys whose numbers don't depend on the batch.
_SEPARABLE = {'key<fry>', f'key<{threefry.TAG}>'}


def batched(
  program: core.ClosedJaxpr, results: Collection[int] | None = None
) -> Callable[..., list[Any]]:
  """Returns a function that computes the same with fewer, larger draws.

  Args:
    program: of `jax.make_jaxpr`. Equations that no result needs are left out.
    results: the numbers of those of its flat results that are wanted; None for
      all.

  Returns:
    A function from the program's flat arguments to its flat results, in the
    program's order.
  """
  every = range(len(program.jaxpr.outvars))
  used, _ = partial_eval.dce_jaxpr(
    program.jaxpr,
    [results is None or number in results for number in every],
    instantiate=True,
  )

  def compute(*arguments):
    return _evaluate(used, program.consts, arguments)

  return compute


def _evaluate(
  jaxpr: core.Jaxpr, consts: Sequence[Any], arguments: Sequence[Any]
) -> list[Any]:
  """Computes a program; draws that are ready at the same time form batches."""
  values = dict(zip(jaxpr.constvars, consts, strict=True))
  values.update(zip(jaxpr.invars, arguments, strict=True))

  def value(atom):
    return atom.val if isinstance(atom, core.Literal) else values[atom]

  def is_known(atom):
    return isinstance(atom, core.Literal) or atom in values

  waiting = list(jaxpr.eqns)
  while waiting:
    later, folds, draws = [], [], collections.defaultdict(list)
    for equation in waiting:
      if not all(map(is_known, equation.invars)):
        later.append(equation)
      elif _is_fold(equation):
        folds.append(equation)
      elif _is_draw(equation):
        draws[_kind(equation)].append(equation)
      else:
        results = _bind(equation, [value(x) for x in equation.invars])
        values.update(zip(equation.outvars, results, strict=True))
    if folds:
      keys, numbers = (
        jnp.stack([value(fold.invars[i]) for fold in folds]) for i in (0, 1)
      )
      keys = jax.vmap(jax.random.fold_in)(keys, numbers)
      for fold, key in zip(folds, keys, strict=True):
        values[fold.outvars[0]] = key
    for alike in draws.values():
      drawn = _abstract(alike[0].outvars)
      nbytes = sum(x.size * x.dtype.itemsize for x in drawn)
      most = max(1, _MAX_BATCH_BYTES // max(1, nbytes))
      for first in range(0, len(alike), most):
        group = alike[first : first + most]
        inputs = [[value(x) for x in equation.invars] for equation in group]
        for equation, results in zip(group, _draw(group, inputs), strict=True):
          values.update(zip(equation.outvars, results, strict=True))
    waiting = later
  return [value(x) for x in jaxpr.outvars]


def _is_fold(equation: core.JaxprEqn) -> bool:
  if equation.primitive is not core.primitives.random_fold_in_p:
    return False
  key, number = _abstract(equation.invars)
  return _is_separable(key) and number.shape == ()


def _is_separable(key: Any) -> bool:
  return key.shape == () and key.dtype.name in _SEPARABLE


def _is_key(atom: Any) -> bool:
  return jax.dtypes.issubdtype(atom.aval.dtype, jax.dtypes.prng_key)


def _abstract(atoms: Sequence[Any]) -> list[Any]:
  """Returns shapes and types of inputs or results of an equation."""
  return [atom.aval for atom in atoms]


def _is_draw(equation: core.JaxprEqn) -> bool:
  """Whether it calls one of `jax.random`'s functions, on one separable key."""
  keys = [atom.aval for atom in equation.invars if _is_key(atom)]
  return (
    equation.primitive is core.primitives.jit_p
    and len(keys) == 1
    and _is_separable(keys[0])
  )


def _kind(equation: core.JaxprEqn) -> tuple[Any, ...]:
  """Returns what draws of one batch have in common: all but the key."""
  # A literal is a scalar, of a class that may have no hash.
  others = (
    (str(atom.aval), np.asarray(atom.val).tobytes())
    if isinstance(atom, core.Literal)
    else atom
    for atom in equation.invars
    if not _is_key(atom)
  )
  # JAX traces a function once for each shape and reuses the program.
  return id(equation.params['jaxpr']), *others


def _draw(
  group: Sequence[core.JaxprEqn], inputs: Sequence[Sequence[Any]]
) -> list[Sequence[Any]]:
  """Computes draws of one kind; returns the results of each."""
  if len(group) == 1:
    return [_bind(group[0], inputs[0])]
  program = core.jaxpr_as_fun(group[0].params['jaxpr'])
  place = [_is_key(atom) for atom in group[0].invars].index(True)
  before, after = inputs[0][:place], inputs[0][place + 1 :]
  keys = jnp.stack([values[place] for values in inputs])
  # Not `vmap`: XLA would fuse the generator with what is done with each array,
  # and compile it for each.
  results = jax.lax.map(lambda key: program(*before, key, *after), keys)
  return [[x[i] for x in results] for i in range(len(group))]


def _bind(equation: core.JaxprEqn, inputs: Sequence[Any]) -> Sequence[Any]:
  """Computes one equation unchanged."""
  parameters = equation.primitive.get_bind_params(equation.params)
  results = equation.primitive.bind(*inputs, **parameters)
  return results if equation.primitive.multiple_results else [results]
