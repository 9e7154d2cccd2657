"""Which experiments of a data set are registered under their default names."""

import itertools
from collections.abc import Mapping, Sequence

from dss_jax import mixtures

# METHOD and PAIRED.
METHODS = (
  ('dss', False),
  ('dss', True),
  ('finetune', False),
  ('single_task', False),
)


def register(
  data_set: str, teachers: Mapping[str, Sequence[str]]
) -> tuple[mixtures.Experiment, ...]:
  """Registers every method with every kind of labels; reads no file.

  Args:
    data_set: its name.
    teachers: for each source of data, whose outputs come with it.

  Returns:
    The experiments.
  """
  experiments = tuple(
    mixtures.Experiment(data_set, data, method, labels, teacher, paired=paired)
    for data, names in teachers.items()
    for teacher, (method, paired), labels in itertools.product(
      names, METHODS, mixtures.LABELS
    )
  )
  for experiment in experiments:
    mixtures.register(experiment)
  return experiments
