"""A student of a run, or of an exported folder."""

import contextlib
import dataclasses
import inspect
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dss_jax import errors
from t5x.cli import quiet_tensorflow

if TYPE_CHECKING:
  from dss_jax.student import answering, usage
  from t5x import models

# Gin has one configuration for a process, and no name for all of it.
_GIN_STATE = ('_CONFIG', '_SINGLETONS', '_IMPORTS', '_OPERATIVE_CONFIG')
_LOADING = threading.Lock()
# Arguments that a model gives a function that decodes.
_GIVEN = (
  'inputs', 'cache', 'tokens_to_logits', 'eos_id', 'num_decodes',
  'cache_offset', 'decode_rng',
)  # fmt: skip


def load(
  run: str | os.PathLike[str],
  step: int | None = None,
  *,
  batch_size: int | None = None,
  classes: Sequence[str] | None = None,
  allow: Sequence[str] = (),
) -> 'answering.Student':
  """See `dss_jax.load`, which this is."""
  if 'tensorflow' not in sys.modules:
    # A program that has it decides itself what TensorFlow may use.
    quiet_tensorflow.load()
  from dss_jax.student import answering
  from t5x import checkpoints
  from t5x.checkpoints import formats

  path = os.fspath(run)
  if '://' not in path and not os.path.exists(path):
    parent = os.path.dirname(os.path.abspath(path))
    near = os.listdir(parent) if os.path.isdir(parent) else []
    raise errors.DataError(
      f'{path}: expected the folder of a run, or one that `dss export` wrote;'
      f' found none there.{errors.did_you_mean(os.path.basename(path), near)}'
      ' Correct the path.'
    )
  checkpoint = checkpoints.find_checkpoint(path, step)
  options: Mapping[str, Any] = {}
  if formats.huggingface.is_huggingface_folder(checkpoint):
    from dss_jax.student import exported

    model, usage = exported.read(checkpoint)
  else:
    model, usage, options = of_run(path, checkpoint, allow)
  if batch_size is not None:
    usage = dataclasses.replace(usage, batch_size=batch_size)
  if classes is not None:
    usage = dataclasses.replace(usage, classes=tuple(classes))
  return answering.Student(model, usage, checkpoint, options)


def of_run(
  run: str, checkpoint: str, allow: Sequence[str] = ()
) -> tuple['models.EncoderDecoderModel', 'usage.Usage', dict[str, Any]]:
  """Returns the model of a run, its usage, and how it decodes.

  No code of the run's folder is run, and the caller's gin configuration stays.

  Args:
    run: its folder, or one of its checkpoints.
    checkpoint: the checkpoint that is loaded.
    allow: modules whose code may be run.

  Returns:
    The model without weights; its usage; and all options of its `decode_fn`.

  Raises:
    DataError: the folder has no configuration, or one that cannot be read.
  """
  from dss_jax import config_filter, run_config
  from dss_jax.student import usage as usage_lib

  path = run_config.path_in(run, checkpoint)
  if path is None:
    raise errors.DataError(
      f'{run}: expected config.gin there, which a run writes beside its'
      ' checkpoints; found none. Copy it there, or give a folder that `dss'
      ' export` wrote.'
    )
  own = config_filter.model_only(
    path.read_text(), os.fspath(path), allow, decoding='always'
  )
  with (
    _LOADING,
    _kept_gin(),
    run_config.configured([], [], own, ['model']) as (bound),
  ):
    model = run_config.resolve(bound, 'model')
    usage = usage_lib.of_run(model, path.parent)
    options = decode_options(model, os.fspath(path))
  return model, usage, options


def decode_options(
  model: 'models.BaseTransformerModel', place: str
) -> dict[str, Any]:
  """Returns all options of a model's `decode_fn`.

  Gin fills in those of its configuration when the function is called, which is
  after this configuration is gone.

  Args:
    model: made by the configuration in force.
    place: of the configuration, for messages.

  Raises:
    DataError: they are bound in a scope.
  """
  import gin

  function = model.decode_fn
  assert function is not None  # The model has one by default.
  parameters = inspect.signature(inspect.unwrap(function)).parameters
  try:
    bound = gin.get_bindings(function)
  except ValueError:
    if hasattr(function, '__wrapped__'):
      raise errors.DataError(
        f'{place}: expected a decode_fn without a scope, found'
        f' {function!r:.80}. Bind its options without one.'
      ) from None
    bound = {}
  defaults = {
    name: p.default
    for name, p in parameters.items()
    if p.default is not p.empty and name not in _GIVEN
  }
  return {**defaults, **bound}


@contextlib.contextmanager
def _kept_gin() -> Iterator[None]:
  """Keeps what the caller has configured with gin."""
  import gin
  from gin import config as gin_config

  locked = gin.config_is_locked()
  kept = {name: getattr(gin_config, name).copy() for name in _GIN_STATE}
  try:
    yield
  finally:
    for name, before in kept.items():
      now = getattr(gin_config, name)
      now.clear()
      now.update(before)
    gin_config._set_config_is_locked(locked)
