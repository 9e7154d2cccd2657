"""The page of `dss report` in a real browser; see `real_browser`."""

import functools

import pytest

from dss_jax.report import writing
from tests.dss_jax.report import made_run, real_browser

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def server():
  """A port on this machine, and the list of what was asked of it."""
  with real_browser.listening() as found:
    yield found


@pytest.fixture(scope='module')
def opened():
  """Opens pages."""
  with real_browser.opening() as found:
    yield found


def _written(folder, server, methods):
  text = real_browser.hostile(server[0])
  runs = [
    made_run.write(
      folder,
      method,
      [n % 3 > 0 for n in range(200)],
      predictions=dict.fromkeys(range(0, 200, 15), text),
      rationales=dict.fromkeys(range(0, 200, 7), text),
    )
    for method in methods
  ]
  # A name that no window is wide enough for.
  runs[-1] = runs[-1].rename(runs[-1].with_name('x' * 200))
  # Something is missing, too.
  (runs[-1] / 'training_data.json').unlink()
  writing.write(runs, folder / 'report.html')
  return folder / 'report.html'


@pytest.fixture(scope='module')
def one(tmp_path_factory, server, opened):
  """Opens the page of a run."""
  page = _written(tmp_path_factory.mktemp('one'), server, ['dss'])
  return functools.partial(opened, page)


@pytest.fixture(scope='module')
def several(tmp_path_factory, server, opened):
  """Opens the page of four runs."""
  methods = ['finetune', 'dss', 'single_task', 'distill']
  page = _written(tmp_path_factory.mktemp('several'), server, methods)
  return functools.partial(opened, page)


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('width', [1280, 390])
def test_the_page_of_a_run_fits_and_can_be_read(one, width, scheme):
  with one(width, scheme) as page:
    for closed in page.locator('summary').all():
      closed.click()
    page.get_by_label('Text', exact=True).fill('document.title')
    assert page.locator('article').count() > 0
    real_browser.check_looks(page, width, scheme)


def test_nothing_is_asked_and_hostile_text_is_text(one, server):
  with one() as page:
    assert page.title().startswith('Report: ')
    page.get_by_label('Text', exact=True).fill('document.title')
    text = page.locator('article').first.inner_text()
    assert '</script><script>document.title = "taken"' in text
    assert '⟨U+001B⟩[31mred⟨U+001B⟩[0m ⟨U+202E⟩reversed' in text
    assert page.locator('#questions img, #questions script').count() == 0
    real_browser.check_nothing_is_asked(page, *server)


def test_a_number_of_the_confusion_shows_its_answers_by_keyboard(one):
  with one() as page:
    count = page.locator('#count')
    # Mistakes of the test split come first.
    assert count.inner_text() == '1 to 10 of 67'
    cell = page.locator(
      'button.cell[data-place=test][data-gold="1"][data-said="2"]'
    )
    number = int(cell.inner_text())
    assert number > 0
    cell.focus()
    page.keyboard.press('Enter')
    real_browser.wait_for_count(page, f'of {number}')
    for article in page.locator('article').all():
      assert 'Gold: desert' in article.inner_text()
      assert 'attic' in article.locator('.given').inner_text()
    assert page.evaluate('document.activeElement.id') == 'text'
    page.get_by_role('button', name='Clear').focus()
    page.keyboard.press('Space')
    real_browser.wait_for_count(page, '1 to 10 of 67')
    none = page.locator('button.cell[data-place=test][data-said=none]').first
    number = int(none.inner_text())
    none.click()
    real_browser.wait_for_count(page, f'of {number}')


def test_everything_can_be_reached_by_keyboard(one):
  with one() as page:
    page.locator('body').focus()
    reached = []
    for _ in range(200):
      page.keyboard.press('Tab')
      name = page.evaluate(
        'document.activeElement.id || document.activeElement.tagName'
      )
      if name == 'BODY':
        break
      reached.append(name)
    assert reached[0] == 'A'  # To skip to the content.
    for name in ('text', 'gold', 'said', 'next', 'SUMMARY', 'PRE', 'BUTTON'):
      assert name in reached, name


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_the_page_of_several_runs_fits_and_can_be_read(several, scheme):
  for width in (1280, 390):
    with several(width, scheme) as page:
      for closed in page.locator('summary').all():
        closed.click()
      assert page.locator('#curves svg').count() >= 6
      assert page.said == []
      real_browser.check_looks(page, width, scheme)
