"""Restoring a run's first weights from a checkpoint."""

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

from t5x import utils

# Upstream T5X starts a state afresh only with a fallback that covers the
# weights, too. Our engine needs none, so any difference in weights is an error.
_NEEDS_FALLBACK = importlib.util.find_spec('t5x.errors') is None


def initial_checkpoint(
  path: str | None, from_scratch: Sequence[str] = ()
) -> utils.RestoreCheckpointConfig | None:
  """Returns the configuration that restores a checkpoint's weights alone.

  The step and the optimizer start afresh: a run's schedule and TRAIN_STEPS
  count from its own beginning, however long the checkpoint was trained. The
  weights must be the network's, leaf by leaf.

  Args:
    path: a T5X checkpoint (either layout), a Hugging Face folder, or one of
      peft, whose adapters are beside the model that it names. None trains from
      scratch, and returns None.
    from_scratch: parameters that start from scratch unless the checkpoint has
      them, such as adapters; see `RestoreCheckpointConfig`. Upstream T5X does
      not have this.
  """
  if path is None:
    return None
  more: dict[str, Any] = {'from_scratch': from_scratch} if from_scratch else {}
  return utils.RestoreCheckpointConfig(
    path=path,
    mode='specific',
    # None is the type that the network has them in.
    dtype='float32' if _NEEDS_FALLBACK else None,
    state_transformation_fns=(_weights_alone,),
    fallback_to_scratch=_NEEDS_FALLBACK,
    **more,
  )


def _weights_alone(
  state_dict: Mapping[str, Any],
  target_state_dict: Mapping[str, Any],
  *,
  is_resuming: bool,
) -> Mapping[str, Any]:
  """Drops step and optimizer; a `RestoreStateTransformationFn`."""
  del target_state_dict, is_resuming
  return {name: part for name, part in state_dict.items() if name != 'state'}
