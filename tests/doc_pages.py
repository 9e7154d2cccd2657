"""Code blocks and links of Markdown pages, and the commands in the blocks.

A block is run by `pytest -m slow tests/test_docs.py`, unless a comment directly
above it says otherwise:

  <!-- not run: REASON -->  it needs a cloud, a download or an accelerator
  <!-- dry run: REASON -->  it takes long; its commands get their dry-run option
  <!-- file: NAME -->       it is what the file NAME holds, for later blocks
"""

import dataclasses
import itertools
import re
import shlex
from collections.abc import Iterator

import markdown_it

# What a block may be written in: commands, code, data, or what a screen shows.
LANGUAGES = ('sh', 'python', 'json', 'yaml', 'text')
MARKS = ('not run', 'dry run', 'file')

_COMMENT = re.compile(r'<!--\s*([a-z ]+):\s*(.+?)\s*-->\s*', re.DOTALL)
# What ends a simple command; the words of a redirection stay with it.
_BETWEEN = re.compile(r'[();|&\n]+')


@dataclasses.dataclass(frozen=True)
class Block:
  """A fenced block of a page.

  Attributes:
    page: the page's path, from the root.
    line: of its first fence, from 1.
    language: what stands beside the fence.
    text: what is between the fences.
    mark: one of `MARKS`, or ''.
    reason: what the mark says.
  """

  page: str
  line: int
  language: str
  text: str
  mark: str = ''
  reason: str = ''

  def __str__(self) -> str:
    return f'{self.page}:{self.line}'


def blocks(page: str, text: str) -> list[Block]:
  """Returns the fenced blocks of a page, in order."""
  found = []
  comment = None
  for token in markdown_it.MarkdownIt().parse(text):
    if token.type in ('fence', 'code_block'):
      mark, reason = comment.groups() if comment else ('', '')
      line = token.map[0] + 1
      found.append(
        Block(page, line, token.info.strip(), token.content, mark, reason)
      )
    comment = None
    if token.type == 'html_block':
      comment = _COMMENT.fullmatch(token.content)
  return found


def links(text: str) -> list[str]:
  """Returns where the links and pictures of a page lead."""
  found = []
  for token in markdown_it.MarkdownIt().parse(text):
    for child in token.children or ():
      place = child.attrGet('href') or child.attrGet('src')
      if place:
        found.append(str(place))
  return found


def anchors(text: str) -> set[str]:
  """Returns the anchors of a page's headings, as GitHub makes them."""
  tokens = markdown_it.MarkdownIt().parse(text)
  found = set()
  for heading, inline in itertools.pairwise(tokens):
    if heading.type == 'heading_open':
      words = ''.join(
        c.content for c in inline.children if c.type in ('text', 'code_inline')
      )
      kept = re.sub(r'[^\w\- ]', '', words.lower())
      found.add(kept.replace(' ', '-'))
  return found


def commands(shell: str) -> Iterator[list[str]]:
  """Yields the words of each simple command of a shell text.

  Comments, assignments in front and redirections are left out. A word that has
  a command in itself (`--command='cd dss-jax && …'`) is followed by that.
  """
  shell = re.sub(r'(^|\s)#[^\n]*', r'\1', shell.replace('\\\n', ' '))
  lexer = shlex.shlex(shell, posix=True, punctuation_chars='();<>|&\n')
  lexer.whitespace = ' \t'
  lexer.whitespace_split = True
  lexer.commenters = ''
  words: list[str] = []
  inner: list[str] = []
  redirected = False
  for word in [*lexer, '\n']:
    if _BETWEEN.fullmatch(word):
      while words and re.fullmatch(r'\w+=.*', words[0], re.DOTALL):
        words.pop(0)
      if words:
        yield words
      for text in inner:
        yield from commands(text)
      words, inner, redirected = [], [], False
    elif word in ('<', '>', '>>'):
      redirected = True
    elif redirected:
      redirected = False
    else:
      words.append(word)
      if word.startswith('--command='):
        inner.append(word.partition('=')[2])
