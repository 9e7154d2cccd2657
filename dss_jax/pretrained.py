"""Where a run's first weights come from."""

from t5x import utils


def initial_checkpoint(
  path: str | None,
) -> utils.RestoreCheckpointConfig | None:
  """Returns what restores the weights of a checkpoint, and nothing else.

  The step and the optimizer start afresh: a run's schedule and TRAIN_STEPS
  count from its own beginning, whatever the checkpoint was trained for.

  Args:
    path: a checkpoint of T5X's (either layout) or a Hugging Face folder; None
      for a model from scratch.

  Returns:
    The configuration, or None.
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
