"""CommonsenseQA: a question with five choices, and the right one of them."""

import itertools

from dss_jax import mixtures

# The teachers whose outputs each source of data comes with.
TEACHERS = {'sample': ('palm',), 'release': ('palm', 'gpt_neox')}

EXPERIMENTS = tuple(
  mixtures.Experiment('cqa', data, method, labels, teacher, paired=paired)
  for data, teachers in TEACHERS.items()
  for teacher, (method, paired), labels in itertools.product(
    teachers,
    (
      ('dss', False),
      ('dss', True),
      ('finetune', False),
      ('single_task', False),
    ),
    mixtures.LABELS,
  )
)

for experiment in EXPERIMENTS:
  experiment.register()
