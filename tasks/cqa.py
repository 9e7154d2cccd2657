"""CommonsenseQA: a question with five choices, and the right one of them."""

from tasks import defaults

# The teachers whose outputs each source of data comes with.
EXPERIMENTS = defaults.register(
  'cqa', {'sample': ('palm',), 'release': ('palm', 'gpt_neox')}
)
