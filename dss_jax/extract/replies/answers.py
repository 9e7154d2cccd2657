"""Reader of a reply: the rationale before a phrase, and the label behind it.

A teacher of the user's own writes Markdown and continues as it likes: bold,
headings and code fences around an answer are no part of it, a question's word
within a rationale begins no next question, and an equation is read whole. The
published rules (`completions`), which were made for other teachers, stay for
what was published.
"""

import functools
import re
import string
from collections.abc import Callable

from dss_jax.data import completions, equations, row_formats

# What Markdown and TeX put around a text, the longest first.
_PAIRS = (
  ('***', '***'),
  ('**', '**'),
  ('*', '*'),
  ('___', '___'),
  ('__', '__'),
  ('_', '_'),
  ('```', '```'),
  ('``', '``'),
  ('`', '`'),
  ('$$', '$$'),
  ('$', '$'),
  ('\\(', '\\)'),
  ('\\[', '\\]'),
  ('\\boxed{', '}'),
  ('\\text{', '}'),
)
# Of these, one alone at an end belongs to a pair around more than the text.
_DANGLING = ('***', '**', '__', '```', '`')
MARKS = ('*', '_', '`', '#', '$', '\\')
_FENCE = re.compile(r'[ \t]*(?:```|~~~)[\w+-]*[ \t]*')
# A line that is a title: `### Answer`, `**Answer:**`, `---`.
_TITLE = re.compile(
  r'[ \t]*(?:#{1,6}[ \t].*|#{1,6}|(?:-[ \t]*){3,}|(?:\*[ \t]*){3,}'
  r'|(\*\*|__)(?:[^\s.!?*_]+[ \t]?){1,5}\1[ \t]*:?)[ \t]*'
)
# The same before a text: `**Reasoning:** It is …`.
_INLINE_TITLE = re.compile(r'(\*\*|__)[^*_\n.]{1,40}(?::\1|\1[ \t]*:)[ \t]*')
_SIGNS = str.maketrans('×⋅·÷−–[]', '***/--()')
_TEX_SIGNS = (('\\times', '*'), ('\\cdot', '*'), ('\\div', '/'))
_TEX_MARKS = re.compile(r'\\left|\\right|\\[()\[\]]|\$')
_MARKED = re.compile(r'\A(\*{1,3}|`{1,3})([^*`\s][^*`]*)\1(?=[\s.,;!])')
_TIMES = re.compile(r'(?<=[\d)]) {0,3}[xX] {0,3}(?=[\d(])')
_WORDS = string.ascii_letters + string.whitespace + ',.;!'
_THOUSANDS = re.compile(r'(?<=\d),(?=\d{3}(?!\d))')


def unwrapped(text: str) -> str:
  """Returns a text without the marks and the fence around it.

  >>> unwrapped('**`yes`**')
  'yes'
  """
  text = text.strip()
  while (inner := _without_pair(text)) != text:
    text = inner.strip()
  return text


def _without_pair(text: str) -> str:
  if (inner := unfenced(text)) != text:
    return inner
  for begin, end in _PAIRS:
    inner = text[len(begin) : len(text) - len(end)]
    if (
      text.startswith(begin)
      and text.endswith(end)
      and inner.strip()
      and begin not in inner
      and not inner.startswith(begin[0])
    ):
      return inner
  return text


def bare(text: str, tail: str = '') -> str:
  """Returns a label without marks, and without the format's words behind it.

  >>> bare('**yes**.', '.'), bare('**yes.**', '.'), bare('yes**', '.')
  ('yes', 'yes', 'yes')

  Args:
    text: the label's line.
    tail: what the answer format has behind a label; removed once.
  """
  text = _undangled(unwrapped(text)).removesuffix(tail)
  text = _undangled(unwrapped(text))
  # Words or a sign may follow: `**yes**!`.
  return _MARKED.sub(r'\2', text)


def _undangled(text: str) -> str:
  """Returns a text without half of a pair at one of its ends."""
  for mark in _DANGLING:
    if text.count(mark) == 1 and text != mark:
      text = text.removeprefix(mark).removesuffix(mark).strip()
  return text


def rationale(text: str) -> str:
  """Returns a rationale without titles, fences and marks around it."""
  lines = unwrapped(text).split('\n')
  kept = _without_frame(lines, True)
  if sum(bool(_FENCE.fullmatch(line)) for line in kept) % 2:
    # A fence at an end belongs to one within.
    kept = _without_frame(lines, False)
  text = '\n'.join(kept).strip()
  title = _INLINE_TITLE.match(text)
  return unwrapped(text[title.end() :] if title else text)


def _without_frame(lines: list[str], fences: bool) -> list[str]:
  """Returns lines without those at the ends that belong to no text."""
  begin, end = 0, len(lines)
  while begin < end and _is_frame(lines[begin], fences):
    begin += 1
  while end > begin and _is_frame(lines[end - 1], fences):
    end -= 1
  return lines[begin:end]


def _is_frame(line: str, fences: bool) -> bool:
  if not line.strip() or (fences and _FENCE.fullmatch(line)):
    return True
  return len(line) < 100 and bool(_TITLE.fullmatch(line))


@functools.cache
def _pattern(phrase: str) -> re.Pattern[str]:
  """Returns the pattern of a phrase: its blanks may be others."""
  words = [re.escape(word) for word in phrase.split()]
  if words[-1].endswith(':'):
    words[-1] = words[-1].removesuffix(':') + r'[*_`]{0,3}:'
  return re.compile(r'\s+'.join(words))


@functools.cache
def _next_question(stop: str) -> re.Pattern[str]:
  return re.compile(rf'^[ \t*_#>`]*{re.escape(stop)}', re.MULTILINE)


def before_next_question(text: str, stop: str) -> str:
  """Returns a reply up to the line that begins a next question.

  Args:
    text: a reply.
    stop: what begins a question; '' for nothing.
  """
  found = _next_question(stop).search(text) if stop else None
  return text if found is None else text[: found.start()]


def unfenced(text: str) -> str:
  """Returns a text without a code fence around all of it."""
  lines = text.strip().split('\n')
  is_fenced = len(lines) > 2 and _FENCE.fullmatch(lines[0])
  if is_fenced and _FENCE.fullmatch(lines[-1]):
    return '\n'.join(lines[1:-1]).strip()
  return text


def without_head(text: str, head: str) -> str:
  """Returns a reply without the format's head, if it is repeated.

  Args:
    text: a reply.
    head: what the answer format has before the rationale; may be blank.
  """
  if not head:
    return text
  found = re.match(rf'[ \t*_#`]{{0,8}}{_pattern(head).pattern}', text)
  if found is None:
    return text
  rest = text[found.end() :]
  marks = re.match(r'[ \t*_#`]*', text)
  opened = marks[0].strip(' \t#') if marks is not None else ''
  if opened and rest.startswith(opened):
    rest = rest.removeprefix(opened)
  elif opened and not found[0].rstrip(':').endswith(opened):
    # The mark belongs to more than the head.
    rest = opened + rest.lstrip()
  return rest.lstrip()


def read(
  text: str,
  phrase: str,
  stop: str,
  label: Callable[[str], str],
  plain: bool = True,
) -> completions.Parsed | None:
  """Splits a reply into rationale and label.

  Args:
    text: a reply without thoughts and head.
    phrase: separates rationale and answer; must occur exactly once.
    stop: what begins the next, invented question; '' for nothing.
    label: returns the label in the answer's line.
    plain: whether marks around the rationale are no part of it.

  Returns:
    Both parts, '' for one that is not found; None without a phrase.
  """
  text = before_next_question(text, stop)
  text = unwrapped(text) if plain else text.strip()
  pattern = _pattern(phrase)
  found = pattern.search(text)
  if found is None:
    return None
  before, after = text[: found.start()], text[found.end() :]
  if stop:
    after = after.split(stop, 1)[0]
  if pattern.search(after):
    return completions.Parsed('', '')
  if not plain:
    line = (after.strip().splitlines() or [''])[0]
    return completions.Parsed(before.strip(), label(line))
  opened = re.search(r'(?:^|(?<=\s))[*_`]{1,3}$', before)
  if opened:
    before = before[: opened.start()]
  # A title's marks before the phrase: `### So the answer is …`.
  before = re.sub(r'(?:^|(?<=\n))[ \t]*(?:#{1,6}|[>*-])[ \t]*$', '', before)
  line = _answer_line(after, opened[0] if opened else '')
  return completions.Parsed(rationale(before), label(line))


def ends_line(text: str, phrase: str, tail: str) -> bool:
  """Returns whether a reply goes on behind its label, or ends with the tail.

  Args:
    text: a reply.
    phrase: what stands before the label.
    tail: what the answer format has behind a label; '' for nothing.
  """
  found = _pattern(phrase).search(text)
  after = text[found.end() :].lstrip() if found else ''
  if '\n' in after:
    return True
  return bool(tail) and after.rstrip(' *_`').endswith(tail)


def _answer_line(after: str, opened: str) -> str:
  """Returns the line that holds the answer.

  Args:
    after: what follows the phrase.
    opened: the marks before the phrase, which end somewhere behind it.
  """
  after = after.lstrip()
  for _ in range(2):
    if opened and after.startswith(opened):
      after, opened = after.removeprefix(opened).lstrip(), ''
    if re.match(r':(?!\S)|:[*_`]', after):
      after = after[1:].lstrip()
  lines = (line.strip() for line in after.split('\n'))
  line = next(
    (line for line in lines if line and not _FENCE.fullmatch(line)), ''
  )
  line = (line.splitlines() or [''])[0]
  if opened:
    # Before the format's last words, or behind them.
    end = line.rfind(opened)
    if end > 0 and len(line) - end - len(opened) <= 1:
      line = line[:end] + line[end + len(opened) :]
  return line


# Labels of the published data sets.


def option(line: str) -> str:
  """Returns the words after the first `(x)`, up to a second one."""
  whole = _undangled(unwrapped(line))
  _, *options = re.split(r'\(.\)', whole, maxsplit=2)
  return bare(options[0].lstrip(' *_`'), '.') if options else ''


def equation(line: str) -> str:
  r"""Returns the whole equation of a line in parentheses, '' without one.

  >>> equation('(8 - 2) * 3.'), equation('$(8 - 2) \\times 3 = 18$')
  ('((8 - 2) * 3)', '((8 - 2) * 3)')
  """
  text = unwrapped(line)
  for name, sign in _TEX_SIGNS:
    text = text.replace(name, sign)
  text = _TEX_MARKS.sub('', _THOUSANDS.sub('', text))
  text = _TIMES.sub('*', bare(text.translate(_SIGNS), '.'))
  # Words such as a unit may follow what ends with a parenthesis or a number.
  shorter = text.rstrip(_WORDS) if '(' in text else text
  parts = (text, *text.split('='), shorter, *shorter.split('='))
  for part in filter(str.strip, parts):
    if equations.evaluate(part) is not None:
      return _in_parentheses(part.strip())
  begin, end = text.find('('), text.rfind(')')
  if not 0 <= begin < end:
    return ''
  outside = text[:begin] + text[end + 1 :]
  # What stands outside may change the value.
  return '' if re.search(r'[\d+*/^%=-]', outside) else text[begin : end + 1]


def _in_parentheses(text: str) -> str:
  depth = 0
  for place, character in enumerate(text):
    depth += (character == '(') - (character == ')')
    if depth == 0:
      is_whole = place == len(text) - 1 and text.startswith('(')
      return text if is_whole else f'({text})'
  return f'({text})'


def nli_class(line: str) -> str:
  """Returns the class that a line names."""
  label = bare(line, '.')
  lower = label.lower()
  return lower if lower in row_formats.NLI_LABELS else label
