"""SVAMP: arithmetic in a short story, and the equation that answers it."""

from tasks import defaults

EXPERIMENTS = defaults.register(
  'svamp', {'sample': ('palm',), 'release': ('palm', 'gpt_neox')}
)
