"""Drawing of charts: Matplotlib's SVG with a page's colors, and files.

A chart in a page has no legend and no fixed colors: the page has both, in light
and dark. `MARKERS`, dashes and colors tell lines apart together.
"""

import contextlib
import html
import io
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from matplotlib import axes as axes_lib
  from matplotlib import figure as figure_lib

# On white, each has a contrast of at least 3 to 1; people with any one kind of
# color blindness can tell them apart, and the markers tell them apart as well.
COLORS = ('#0072b2', '#d55e00', '#008f68', '#a94e8f', '#8a6d00', '#56585c')
DARK_COLORS = (
  *('#56b4e9', '#ff8a3d', '#2fc79a', '#e290c4', '#e6c229', '#b8bcc2'),
)
MARKERS = ('o', 's', '^', 'D', 'v', 'P')
_DASHES = ('-', '--', '-.', ':')
# Stand in pictures for what a page sets by its style sheet.
INK = '#1f2328'
GRID = '#d9dde3'
_PANEL = (4.2, 3.3)  # Inches.


def new_figure(rows: int, columns: int) -> 'figure_lib.Figure':
  """Returns a figure for so many panels, apart from pyplot's global state."""
  from matplotlib import figure as figure_lib

  return figure_lib.Figure(
    figsize=(_PANEL[0] * columns, _PANEL[1] * rows), layout='constrained'
  )


def style(salt: str = '') -> contextlib.AbstractContextManager[None]:
  """Returns the context in which figures are made, drawn and saved.

  Args:
    salt: makes the ids in a picture its own, and the same ones each time.
  """
  import matplotlib as mpl

  return mpl.rc_context(
    {
      'svg.hashsalt': salt,
      'svg.fonttype': 'none',
      # A `$` in a name is no formula.
      'text.parse_math': False,
      'font.size': 9.5,
      'text.color': INK,
      'axes.labelcolor': INK,
      'axes.edgecolor': INK,
      'axes.linewidth': 0.8,
      'axes.spines.top': False,
      'axes.spines.right': False,
      'axes.axisbelow': True,
      'axes.grid': True,
      'grid.color': GRID,
      'grid.linewidth': 0.8,
      'xtick.color': INK,
      'ytick.color': INK,
      'lines.linewidth': 1.8,
      'lines.markersize': 5.5,
    }
  )


def count_ticks(axes: 'axes_lib.Axes') -> None:
  """Gives the horizontal axis few ticks, whole numbers with their thousands.

  Args:
    axes: whose horizontal axis counts steps.
  """
  from matplotlib import ticker

  axes.xaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
  axes.xaxis.set_major_formatter(ticker.StrMethodFormatter('{x:,.0f}'))
  low, high = axes.get_ylim()
  if high >= 1000 > high / 10_000 and low >= 0:
    axes.yaxis.set_major_formatter(ticker.StrMethodFormatter('{x:,.0f}'))


def styled(number: int) -> dict[str, Any]:
  """Returns what tells a line of a legend apart from the others.

  Args:
    number: its place in the legend.
  """
  dashes = _DASHES[number // len(COLORS) % len(_DASHES)]
  return {'color': COLORS[number % len(COLORS)], 'linestyle': dashes}


def save(figure: 'figure_lib.Figure', target: Any, kind: str) -> None:
  """Saves a figure, the same one as the same bytes.

  Args:
    figure: what to save.
    target: a path or an open file.
    kind: 'png' or 'svg'.
  """
  metadata = {'Date': None, 'Creator': None} if kind == 'svg' else {}
  figure.savefig(target, format=kind, dpi=160, metadata=metadata)


def to_page(figure: 'figure_lib.Figure', spoken: str) -> str:
  """Returns a figure as an `<svg>` whose colors the page's style sheet sets.

  Lines with a gid `run:NAME` show NAME when they are pointed at.

  Args:
    figure: what to show; its background is left out.
    spoken: what it shows, in words.
  """
  figure.patch.set_visible(False)
  for axes in figure.axes:
    axes.patch.set_visible(False)
  buffer = io.StringIO()
  save(figure, buffer, 'svg')
  text = buffer.getvalue()
  text = text[text.index('<svg') :]
  text = re.sub(r'<metadata>.*?</metadata>', '', text, flags=re.DOTALL)
  text = re.sub(r'<g id="run:([^"]*)">', r'<g><title>\1</title>', text)
  text = re.sub(r'<g id="[^"]*"', '<g', text)
  view = re.search(r'viewBox="[^"]*"', text)
  head = (
    f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" {view and view.group()}'
    f' role="img" aria-label="{html.escape(spoken)}">'
  )
  text = head + text[text.index('>') + 1 :]
  for number, color in enumerate(COLORS):
    text = text.replace(color, f'var(--arm-{number})')
  return text.replace(INK, 'var(--ink)').replace(GRID, 'var(--grid)')
