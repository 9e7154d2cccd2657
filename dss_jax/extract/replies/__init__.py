"""Replies of a model, read: a rationale, and a label.

The doors:

  `thoughts`    a reasoning model's thoughts, told from its answer
  `answers`     rationale and label in a text, read out of Markdown
  `structured`  rationale and label in a JSON object
"""

__all__ = ('answers', 'structured', 'thoughts')
