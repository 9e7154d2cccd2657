"""ANLI, round 1: whether a sentence follows from a few others."""

from tasks import defaults

EXPERIMENTS = defaults.register(
  'anli1', {'sample': ('palm',), 'release': ('palm', 'gpt_neox')}
)
