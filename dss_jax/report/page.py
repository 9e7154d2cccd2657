"""Self-contained HTML pages: templates, foreign text, and what they may load.

A page is one file that opens from disk. Its policy (`Content-Security-Policy`)
forbids every request and every script but the one whose hash it names, so that
text which a model wrote stays text whatever happens to it.
"""

import base64
import functools
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  import jinja2

# What a reader does not see or what moves other text: control characters
# (but for line ends and tabs), marks of direction, and half characters.
_UNSEEN = re.compile(
  '[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e'
  '\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]'
)


def visible(text: str, limit: int) -> str:
  r"""Returns text as it can be shown: nothing hidden, and not too long.

  >>> visible('\x1b[31mred', 40), visible('abcdef', 4)
  ('⟨U+001B⟩[31mred', 'abcd… (2 more characters)')

  Args:
    text: what somebody else wrote.
    limit: number of characters to keep.
  """
  rest = len(text) - limit
  end = f'… ({rest:,} more characters)' if rest > 0 else ''
  shown = text[:limit].replace('\r\n', '\n')
  return _UNSEEN.sub(lambda found: f'⟨U+{ord(found[0]):04X}⟩', shown) + end


def render(package: str, template: str, script: str, **values: Any) -> str:
  """Returns a page.

  Args:
    package: whose folder `templates/` has the template; what it includes may
      stand in this package's own.
    template: a file that extends `base.html`.
    script: the page's only script.
    **values: what the template shows. Texts are escaped.
  """
  environment = _environment(package)
  code, _, _ = environment.loader.get_source(environment, script)
  digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
  return environment.get_template(template).render(
    script=_markup(code), script_hash=digest, **values
  )


def picture(svg: str) -> 'jinja2.utils.markupsafe.Markup':
  """Returns a picture that `drawing` has made; its texts hide nothing."""
  return _markup(_UNSEEN.sub('\ufffd', svg))


def _seen(value: Any) -> Any:
  """Returns what a template shows, without what a reader does not see."""
  if not isinstance(value, str) or hasattr(value, '__html__'):
    return value
  return visible(value, len(value))


def _markup(text: str) -> Any:
  import markupsafe

  return markupsafe.Markup(text)


@functools.cache
def _environment(package: str) -> Any:
  import jinja2

  environment = jinja2.Environment(
    loader=jinja2.ChoiceLoader(
      [jinja2.PackageLoader(name) for name in (package, __package__)]
    ),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    finalize=_seen,
  )
  environment.filters['data'] = _data
  environment.globals['flat'] = _flat
  return environment


def _flat(rows: Any) -> list[list[Any]]:
  """Returns rows of a name and values as rows of texts."""
  return [[name, *values] for name, values in rows]


def _data(value: Any) -> Any:
  """Returns JSON that is safe inside a `<script>`: it has no `<` and no `&`."""
  text = json.dumps(value, separators=(',', ':'))
  for mark in '<>&':
    text = text.replace(mark, f'\\u{ord(mark):04x}')
  return _markup(text)
