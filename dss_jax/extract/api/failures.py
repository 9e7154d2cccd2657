"""Failures of requests: what is worth asking again, and what to change."""

import re

_FILTER = re.compile(
  r'content (management )?(filter|policy)|content[_ ]policy|moderation'
  r'|flagged|responsible ?ai|safety (system|filter|policy)'
  r'|inappropriate content',
  re.IGNORECASE,
)
_FILTER_CODES = (
  'content_filter',
  'content_policy_violation',
  'data_inspection_failed',
  'moderation_blocked',
)
# What a server says, and what helps.
_ADVICE = (
  (
    r'system[\s\'"`]{0,3}(role|message|prompt|instruction)[^.]{0,40}'
    r'(not|n\'t|un)[\s-]?(be )?(support|allow|permit|enabled)'
    r'|(not|n\'t) support[^.]{0,30}\bsystem\b|unsupported[^.]{0,30}\bsystem\b'
    r'|only user,?( and)? assistant roles|roles must alternate'
    r'|developer instruction is not enabled',
    'The model takes no system message: give a --prompt whose instruction is'
    " blank (instruction: '', with its words in the question), or --endpoint"
    ' completion.',
  ),
  (
    r'no JSON object of a rationale and a label',
    'The server does not hold to response_format: leave --structured out, and'
    ' give --fresh.',
  ),
  (
    r'response[_ ]format|json[_ ]schema',
    'Leave --structured out, or the --param that asks for JSON.',
  ),
  (
    r'max_completion_tokens',
    'Give --param max_tokens=null --param max_completion_tokens=1000.',
  ),
  (
    r'(unsupported|unrecogni[sz]ed|unknown|unexpected|not support|invalid|'
    r'extra)[^.]{0,60}\btemperature\b|\btemperature\b[^.]{0,60}(not|only|un)'
    r'[\s-]?(support|allow|default|recogni[sz]ed)',
    'Give --param temperature=null, which leaves it out.',
  ),
  (
    r'(unsupported|unrecogni[sz]ed|unknown|unexpected|not support|extra)'
    r'[^.]{0,60}\bstop\b|[\'"`]stop[\'"`][^.]{0,60}(not|un)[\s-]?(support|'
    r'allow)',
    'Give --param stop=null, which leaves it out.',
  ),
  (
    r'chat[_ ]template|not a chat model|not support chat',
    'The model has no format for chats: give --endpoint completion.',
  ),
  (
    r'only support(s|ed)?[^.]{0,30}\bchat\b|use[^.]{0,20}\bv1/chat/completions'
    r'|not support[^.]{0,40}\bcompletions?\b',
    'Give --endpoint chat.',
  ),
  (
    r'context (length|window|size)|maximum[^.]{0,30}(context|length)'
    r'|too (long|many tokens)|exceeds?[^.]{0,40}(context|token|length)',
    'Use fewer exemplars (--prompt) or a smaller --max-tokens.',
  ),
)
# A server that does not know `response_format`, or not with a schema; not one
# that knows it and refuses what the schema holds.
_FORMAT = r'(response[_ ]?format|json[_ ]schema|structured[_ ]outputs?)'
_NOT_KNOWN = (
  r'(un(supported|recogni[sz]ed|known|expected|available|used)'
  r"|(not|n't|no)( be| yet| currently)? ?(support|permitted|allow|implement"
  r'|available|known|recogni[sz]ed)|extra[_ ](field|input|forbidden)'
  r'|(should|must) be[^.]{0,20}(text|json_object)(?!.*json_schema))'
)
_UNKNOWN_FORMAT = re.compile(
  rf'{_FORMAT}.{{0,120}}{_NOT_KNOWN}|{_NOT_KNOWN}.{{0,120}}{_FORMAT}',
  re.IGNORECASE,
)
_WRONG_SCHEMA = re.compile(
  r'invalid.{0,20}schema|schema.{0,30}(invalid|is not valid)'
  r'|additionalproperties|\benum\b|in context',
  re.IGNORECASE,
)
_PATTERNS = tuple((re.compile(p, re.IGNORECASE), text) for p, text in _ADVICE)


class Failure(Exception):
  """A request that got no completion; asking again would not help this row."""


class RetryableFailure(Failure):
  """A failed request that may succeed when it is sent again.

  Attributes:
    wait: seconds that the server asks to wait; None if it does not say.
    unreachable: whether there is no server at the address.
  """

  def __init__(
    self, message: str, wait: float | None = None, unreachable: bool = False
  ):
    """Creates the exception.

    Args:
      message: what went wrong.
      wait: see the class.
      unreachable: see the class.
    """
    super().__init__(message)
    self.wait = wait
    self.unreachable = unreachable


class FatalFailure(Failure):
  """A failure that every request would have: a wrong key, model or address.

  Attributes:
    status: the HTTP status; 0 without one.
  """

  def __init__(self, message: str, status: int = 0):
    """Creates the exception.

    Args:
      message: what went wrong.
      status: see the class.
    """
    super().__init__(message)
    self.status = status


class RowFailure(Failure):
  """A failure that says nothing about other rows, such as a filtered input."""


# Advice to the user by a server's own words.


def advice(words: str) -> str:
  """Returns what to change when a server says this, '' if that is not known.

  >>> advice("'max_tokens' is not supported, use 'max_completion_tokens'.")
  'Give --param max_tokens=null --param max_completion_tokens=1000.'

  Args:
    words: a server's message.
  """
  return next((text for p, text in _PATTERNS if p.search(words)), '')


def is_filter(words: str, code: str) -> bool:
  """Returns whether an error is about one input that a server won't answer.

  Args:
    words: the server's message.
    code: its code.
  """
  return code in _FILTER_CODES or bool(_FILTER.search(words))


def is_unknown_format(words: str) -> bool:
  """Returns whether a server says that it does not know `response_format`.

  >>> is_unknown_format("This model does not support 'response_format'.")
  True
  >>> is_unknown_format("Invalid schema for response_format: not allowed")
  False

  Args:
    words: the server's message.
  """
  if _WRONG_SCHEMA.search(words):
    return False
  return bool(_UNKNOWN_FORMAT.search(words))
