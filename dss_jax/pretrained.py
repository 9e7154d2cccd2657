"""Restoring a run's first weights from a checkpoint."""

from t5x import utils


def initial_checkpoint(
  path: str | None,
) -> utils.RestoreCheckpointConfig | None:
  """Returns the configuration that restores a checkpoint's weights alone.

  The step and the optimizer start afresh: a run's schedule and TRAIN_STEPS
  count from its own beginning, however long the checkpoint was trained.

  Args:
    path: a T5X checkpoint (either layout) or a Hugging Face folder. None trains
      from scratch, and returns None.
  """
  if path is None:
    return None
  return utils.RestoreCheckpointConfig(
    path=path,
    mode='specific',
    dtype='float32',
    assignment_map=((r'state/.*', None),),
    fallback_to_scratch=True,
  )
