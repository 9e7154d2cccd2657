"""Replies of an API: what the body of an answer holds, and what it means.

The doors, in the order in which a reply goes through them:

  `failures`    what is worth asking again, and what to change
  `bodies`      completions, errors, and what is neither
  `thoughts`    a reasoning model's thoughts, told from its answer
  `answers`     rationale and label in a text, read out of Markdown
  `structured`  rationale and label in a JSON object

Nothing here sends or keeps anything.
"""

__all__ = ('answers', 'bodies', 'failures', 'structured', 'thoughts')
