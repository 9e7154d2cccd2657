"""Pages: foreign text, data, and colors that can be read."""

import json
import pathlib
import re

import pytest

from dss_jax.report import drawing, page

_CSS = (
  pathlib.Path(page.__file__).parent / 'templates' / 'base.css'
).read_text()


@pytest.mark.parametrize(
  ('text', 'shown'),
  [
    ('plain é 猫', 'plain é 猫'),
    ('two\nlines\tand a tab', 'two\nlines\tand a tab'),
    ('\x1b[31mred\x1b[0m', '⟨U+001B⟩[31mred⟨U+001B⟩[0m'),
    ('a\x00b\rc\x7f', 'a⟨U+0000⟩b⟨U+000D⟩c⟨U+007F⟩'),
    ('\u202eevil\u202c', '⟨U+202E⟩evil⟨U+202C⟩'),
    ('half \ud83d', 'half ⟨U+D83D⟩'),
    ('\x9b31m', '⟨U+009B⟩31m'),
    ('x' * 12, 'xxxxxxxxxx… (2 more characters)'),
  ],
)
def test_text_is_shown_without_anything_hidden_and_bounded(text, shown):
  limit = 10 if text == 'x' * 12 else 100
  assert page.visible(text, limit) == shown


def test_data_cannot_end_its_script_and_comes_back():
  value = {'a': '</script><script>alert(1)</script><!-- & \u2028 ]]>'}
  text = str(page._data(value))
  assert not set('<>&\u2028') & set(text)
  assert json.loads(text) == value


def _luminance(color):
  parts = [int(color[n : n + 2], 16) / 255 for n in (1, 3, 5)]
  linear = [
    part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
    for part in parts
  ]
  weights = (0.2126, 0.7152, 0.0722)
  return sum(a * b for a, b in zip(weights, linear, strict=True))


def _contrast(first, other):
  low, high = sorted(map(_luminance, (first, other)))
  return (high + 0.05) / (low + 0.05)


def _colors(block):
  return dict(re.findall(r'--(\w+): (#[0-9a-f]{6});', block))


_LIGHT, _DARK = map(_colors, _CSS.split('prefers-color-scheme: dark'))


@pytest.mark.parametrize('colors', [_LIGHT, _DARK], ids=['light', 'dark'])
def test_texts_have_the_contrast_of_wcag_aa(colors):
  for text in ('ink', 'soft', 'accent', 'right', 'wrong'):
    for ground in ('paper', 'raised'):
      assert _contrast(colors[text], colors[ground]) >= 4.5, (text, ground)
  assert _contrast(colors['ink'], colors['warn']) >= 4.5
  # Edges of fields.
  assert _contrast(colors['edge'], colors['paper']) >= 3


@pytest.mark.parametrize(
  ('lines', 'ground'),
  [(drawing.COLORS, _LIGHT['paper']), (drawing.DARK_COLORS, _DARK['paper'])],
)
def test_lines_have_the_contrast_of_wcag_aa(lines, ground):
  for line in lines:
    assert _contrast(line, ground) >= 3, line
