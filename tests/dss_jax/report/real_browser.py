"""Pages in a real browser, opened from disk.

Needs Chromium (`apt install chromium`) and Playwright, which drives it:
`pip install 'dss-jax[browser-test]'`.
"""

import contextlib
import http.server
import re
import shutil
import threading

import pytest

CHROMIUM = next(
  filter(
    None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))
  ),
  None,
)
_LONG = 'W' * 3000

# For each text that is shown: its contrast with what is behind it, as WCAG
# counts it, if that is below AA's least: 4.5, or 3 for large texts.
_LOW_CONTRAST = """() => {
  const parts = (color) => {
    const found = color.match(/^(rgba?|color)\\(([^)]*)\\)$/);
    const numbers = found[2].replace('srgb', '').split(/[\\s,/]+/)
      .filter((one) => one).map(Number);
    const scale = found[1] === 'color' ? 1 : 255;
    return [...numbers.slice(0, 3).map((one) => one / scale),
            numbers.length > 3 ? numbers[3] : 1];
  };
  const over = (top, below) => [0, 1, 2].map(
    (n) => top[n] * top[3] + below[n] * (1 - top[3])).concat(1);
  const ground = (element) => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) {
      layers.push(parts(getComputedStyle(one).backgroundColor));
    }
    return layers.reverse().reduce((below, top) => over(top, below),
                                   [1, 1, 1, 1]);
  };
  const luminance = (color) => [.2126, .7152, .0722].reduce((sum, by, n) => {
    const part = color[n];
    return sum + by * (part <= .04045 ? part / 12.92
                                      : ((part + .055) / 1.055) ** 2.4);
  }, 0);
  const found = [];
  let count = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || element.closest('script, style, .skip, option, :disabled')
        || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const behind = ground(element);
    const color = element.closest('svg') ? style.fill : style.color;
    const both = [over(parts(color), behind), behind].map(luminance);
    const ratio = (Math.max(...both) + .05) / (Math.min(...both) + .05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    count += 1;
    if (ratio < (large ? 3 : 4.5)) {
      found.push([text.slice(0, 40), Math.round(ratio * 100) / 100]);
    }
  }
  return [count, found];
}"""


def hostile(port: int) -> str:
  """A text that tries to run, to load and to hide."""
  return (
    f'</script><script>document.title = "taken";'
    f'fetch("http://127.0.0.1:{port}/script")</script>'
    f'<img src="http://127.0.0.1:{port}/image">'
    f'\x1b[31mred\x1b[0m \u202ereversed {_LONG}'
  )


@contextlib.contextmanager
def listening():
  """Yields a port on this machine, and the list of what was asked of it."""
  asked = []

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      asked.append(self.path)
      self.send_response(204)
      self.end_headers()

    def log_message(self, *_):
      pass

  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as found:
    thread = threading.Thread(target=found.serve_forever)
    thread.start()
    yield found.server_address[1], asked
    found.shutdown()
    thread.join()


@contextlib.contextmanager
def opening():
  """Yields what opens a page, by its path, in a window of a width."""
  api = pytest.importorskip(
    'playwright.sync_api',
    reason='Playwright is not installed: pip install dss-jax[browser-test]',
  )
  if CHROMIUM is None:
    pytest.skip('Chromium is not installed: apt install chromium')

  @contextlib.contextmanager
  def opened(path, width=1280, scheme='light', script=True):
    context = browser.new_context(
      viewport={'width': width, 'height': 900},
      color_scheme=scheme,
      java_script_enabled=script,
    )
    page = context.new_page()
    page.asked, page.said = [], []
    page.on('request', lambda request: page.asked.append(request.url))
    page.on('pageerror', lambda error: page.said.append(str(error)))
    page.on('console', lambda message: page.said.append(message.text))
    page.goto(path.as_uri())
    yield page
    context.close()

  with api.sync_playwright() as playwright:
    browser = playwright.chromium.launch(
      executable_path=CHROMIUM,
      # What Chromium itself would ask of the network.
      args=['--disable-background-networking', '--disable-component-update'],
    )
    yield opened
    browser.close()


def wait_for_count(page, ending):
  """Waits until the page says so of how many questions it shows.

  `page.wait_for_function` would compile its text again, which the page's policy
  forbids, wherever the first look comes too early.
  """
  api = pytest.importorskip('playwright.sync_api')
  count = re.compile(re.escape(ending) + '$')
  api.expect(page.locator('#count')).to_have_text(count)


def check_nothing_is_asked(page, port, asked):
  """Fails if a page asks for anything, or could."""
  assert page.said == []
  assert len(page.asked) == 1 and page.asked[0].startswith('file://')
  # The policy stops a page that tries, too.
  page.evaluate(
    f"""() => {{
      const image = new Image();
      image.src = 'http://127.0.0.1:{port}/image';
      return fetch('http://127.0.0.1:{port}/x').catch(() => 'stopped');
    }}"""
  )
  page.wait_for_timeout(300)
  assert asked == []


def check_looks(page, width, scheme):
  """Fails if a page is wider than its window, or texts have low contrast."""
  wide = page.evaluate('document.documentElement.scrollWidth')
  assert wide == width
  ground = page.evaluate('getComputedStyle(document.body).backgroundColor')
  assert (ground == 'rgb(255, 255, 255)') == (scheme == 'light')
  count, low = page.evaluate(_LOW_CONTRAST)
  assert count > 50 and low == []
