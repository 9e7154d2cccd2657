"""A hook of MkDocs: links that leave docs/ become plain words on the site."""

import re

_LINK = re.compile(r'\[([^\]]*)\]\((?:\.\./)+[^)]*\)')
_FOLDER = re.compile(r'\[([^\]]*)\]\([\w/]+/\)')


def on_page_markdown(markdown: str, page, **_) -> str:
  """Returns a page's text for the site, which has no files of the code."""
  for pattern in (_LINK, _FOLDER):
    markdown = pattern.sub(_without_link(page), markdown)
  return markdown


def _without_link(page):
  depth = page.file.src_uri.count('/')

  def words(found: re.Match) -> str:
    # A page in a folder may well link to one above it.
    up = found[0].count('../')
    return found[0] if 0 < up <= depth else found[1]

  return words
