"""Thoughts of a reasoning model, told apart from its answer.

A reply may hold thoughts between tags (`<think>…</think>` and its relatives),
before a closing tag whose opening tag was in the prompt, after an opening tag
that the token limit left open, or in channels (`<|channel|>analysis…`). None of
these is an answer. Tags that a prompt's own answer format has are not thoughts'
tags in its replies.
"""

import dataclasses
import re

_NAME = (
  '(?:[a-z]{1,20}:)?'
  '(?:think(?:ing)?|thoughts?|reasoning|reflection|scratchpad|analysis)'
)
# `<think>`, `[THINK]`, `◁think▷`, `<|START_THINKING|>`, `<|begin_of_thought|>`.
_TAG = re.compile(
  rf'<\s{{0,3}}(/?)\s{{0,3}}({_NAME})(?:\s[^<>=]{{0,40}}=[^<>]{{0,80}})?'
  r'\s{0,3}>'
  r'|\[(/?)(think)\]'
  r'|◁(/?)(think)▷'
  r'|<\|(start_|begin_of_|end_|end_of_|/)?(think(?:ing)?|thought)\|>',
  re.IGNORECASE,
)
# What wraps an answer, or ends a turn.
_WRAPPER = re.compile(
  r'</?(?:answer|response|solution|final_answer)>|</s>|<eos>|<end_of_turn>'
  r'|<[|｜][^<>|｜\s]{1,40}[|｜]>',
  re.IGNORECASE,
)
_FINAL = re.compile(r'<\|channel\|>\s*final\b[^<]{0,40}<\|message\|>')
# The same channels where a server drops their special tokens.
_BARE_ANALYSIS = re.compile(r'\s*analysis(?=[A-Z"\'(])')
_BARE_FINAL = 'assistantfinal'
# What servers say for a completion that ended at the token limit.
_CUT = ('length', 'max_tokens', 'max_output_tokens')


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
  """A reply's two parts.

  Attributes:
    thoughts: what the model wrote for itself, without tags.
    answer: what it answers; '' if it only thought.
  """

  thoughts: str
  answer: str


def is_cut(finish: str) -> bool:
  """Returns whether a completion ended at the token limit.

  Args:
    finish: why it ended, in the server's word.
  """
  return finish.lower() in _CUT


def is_unfinished(finish: str) -> bool:
  """Returns whether a completion ended before the model was done.

  Args:
    finish: why it ended, in the server's word.
  """
  return is_cut(finish) or finish.lower() == 'content_filter'


def _tags(text: str, answer_format: str) -> list[tuple[bool, int, int]]:
  """Returns (whether it closes, begin, end) of each tag of thoughts."""
  own = {_tag_name(match) for match in _TAG.finditer(answer_format)}
  return [
    (_closes(match), match.start(), match.end())
    for match in _TAG.finditer(text)
    if _tag_name(match) not in own
  ]


def _tag_name(match: re.Match[str]) -> str:
  return next(filter(None, (match[i] for i in (2, 4, 6, 8)))).lower()


def _closes(match: re.Match[str]) -> bool:
  mark = match[1] or match[3] or match[5] or match[7] or ''
  return mark == '/' or mark.lower().startswith('end_')


def has_tag(text: str, answer_format: str = '') -> bool:
  """Returns whether a text holds a tag of thoughts.

  Args:
    text: any text.
    answer_format: the answer's template, whose own tags do not count.
  """
  return bool(_tags(text, answer_format))


def begins_inside(text: str, answer_format: str = '') -> bool:
  """Returns whether a reply's first tag closes what the prompt opened.

  Args:
    text: a reply as it came.
    answer_format: the answer's template, whose own tags do not count.
  """
  tags = _tags(text, answer_format)
  return bool(tags) and tags[0][0]


def split(text: str, answer_format: str = '', opened: bool = False) -> Reply:
  """Splits a reply into thoughts and answer.

  >>> split('Perhaps not?</think> Ice is cold. So the answer is yes.')
  Reply(thoughts='Perhaps not?', answer='Ice is cold. So the answer is yes.')
  >>> split('<think>Ice is frozen water, so')
  Reply(thoughts='Ice is frozen water, so', answer='')

  Args:
    text: a reply as it came.
    answer_format: the answer's template, whose own tags do not count.
    opened: whether the prompt opens thoughts, so that a reply begins in them.
  """
  opened = opened and not _TAG.search(answer_format)
  thoughts, text = _channels(text)
  answer: list[str] = []
  inside, begin = opened, 0
  for closes, start, end in _tags(text, answer_format):
    part = text[begin:start]
    if closes and (opened or not inside):
      # All before it are thoughts: their opening tag was in the prompt.
      thoughts += [*answer, part]
      answer = []
    else:
      (thoughts if inside else answer).append(part)
    inside, begin = not closes, end
  (thoughts if inside else answer).append(text[begin:])
  # A blank between two parts cannot make a tag out of their ends.
  said = _without_wrappers(' '.join(answer), answer_format)
  return Reply(
    '\n'.join(filter(None, (part.strip() for part in thoughts))), said.strip()
  )


def _channels(text: str) -> tuple[list[str], str]:
  """Returns (thoughts, rest) of a reply in channels."""
  if '<|channel|>' in text:
    finals = list(_FINAL.finditer(text))
    if not finals:
      return [text], ''
    rest = text[finals[-1].end() :].partition('<|')[0]
    return [text[: finals[-1].start()]], rest
  if match := _BARE_ANALYSIS.match(text):
    thought, _, rest = text[match.end() :].rpartition(_BARE_FINAL)
    return [thought or rest], rest if thought else ''
  return [], text


def _without_wrappers(text: str, answer_format: str) -> str:
  own = answer_format.lower()
  return _WRAPPER.sub(
    lambda match: match[0] if match[0].lower() in own else ' ', text
  )
