"""e-SNLI: whether a sentence follows from a picture's caption."""

from tasks import defaults

EXPERIMENTS = defaults.register(
  'esnli', {'sample': ('palm',), 'release': ('palm', 'gpt_neox')}
)
