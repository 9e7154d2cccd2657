"""The page of a study in a real browser; see `real_browser`."""

import functools

import pytest

from dss_jax.study import report
from tests.dss_jax.report import real_browser
from tests.dss_jax.study import finished_run

pytestmark = pytest.mark.slow

_QUESTIONS = 50_000


@pytest.fixture(scope='module')
def server():
  """A port on this machine, and the list of what was asked of it."""
  with real_browser.listening() as found:
    yield found


@pytest.fixture(scope='module')
def pages(tmp_path_factory, server):
  """Opens the page of a study of 50,000 questions in a window of a width."""
  out = tmp_path_factory.mktemp('study')
  text = real_browser.hostile(server[0])
  finished_run.write_study(
    out,
    {'finetune': 0.4, 'dss': 0.8},
    seeds=1,
    fractions=(0.5, 1.0),
    questions=_QUESTIONS,
    evaluations=1,
    predictions=dict.fromkeys(range(0, _QUESTIONS, 7), text),
    rationales=dict.fromkeys(range(0, _QUESTIONS, 11), text),
  )
  report.write(out)
  with real_browser.opening() as opened:
    yield functools.partial(opened, out / 'report.html')


def _filter(page, **by):
  for name, value in by.items():
    page.get_by_label(name, exact=True).select_option(value)


def test_figures_are_there_and_nothing_is_asked_of_the_network(pages, server):
  port, asked = server
  with pages() as page:
    assert page.locator('#figures svg').count() == 1
    box = page.locator('#figures svg').first.bounding_box()
    assert box['width'] > 300 and box['height'] > 200
    assert 'dss' in page.locator('#figures svg').get_attribute('aria-label')
    # Two panels of curves for each part of the rows.
    assert page.locator('#curves svg').count() == 4
    assert page.title().startswith('Study: cqa')
    real_browser.check_nothing_is_asked(page, port, asked)


def test_the_filter_shows_what_is_asked_for(pages):
  with pages() as page:
    count = page.locator('#count')
    assert count.inner_text() == '1 to 10 of 1,000'
    assert page.locator('article').count() == 10
    _filter(page, finetune='wrong', dss='right')
    narrowed = int(count.inner_text().split(' of ')[1].replace(',', ''))
    assert 0 < narrowed < 1000
    for box in page.locator('.given').all():
      texts = box.locator('div').all_inner_texts()
      assert 'wrong' in texts[0] and 'right' in texts[1]
    page.get_by_label('Text', exact=True).fill('animal 1234')
    found = page.locator('article').all_inner_texts()
    assert all('animal 1234' in text for text in found)
    page.get_by_label('Text', exact=True).fill('no such words')
    assert count.inner_text() == 'No question is like that.'
    page.get_by_role('button', name='Clear').click()
    real_browser.wait_for_count(page, '1 to 10 of 1,000')


def test_the_browser_of_questions_can_be_used_by_keyboard(pages):
  with pages() as page:
    page.get_by_label('Text', exact=True).focus()
    order = []
    for _ in range(6):
      order.append(
        page.evaluate(
          'document.activeElement.id || document.activeElement.type'
          ' || document.activeElement.textContent'
        )
      )
      page.keyboard.press('Tab')
    assert order == [
      *('text', 'place', 'outcome-0', 'outcome-1', 'reset', 'next')
    ]
    page.get_by_role('button', name='Next').focus()
    page.keyboard.press('Enter')
    assert page.locator('#count').inner_text() == '11 to 20 of 1,000'
    page.get_by_role('button', name='Previous').focus()
    page.keyboard.press('Space')
    assert page.locator('#count').inner_text() == '1 to 10 of 1,000'


def test_hostile_text_is_shown_as_text(pages, server):
  with pages() as page:
    page.get_by_label('Text', exact=True).fill('document.title')
    text = page.locator('article').first.inner_text()
    assert '</script><script>document.title = "taken"' in text
    assert '<img src=' in text
    assert '⟨U+001B⟩[31mred⟨U+001B⟩[0m ⟨U+202E⟩reversed' in text
    assert 'more characters)' in text
    assert page.locator('#questions img, #questions script').count() == 0
    assert page.title().startswith('Study')
    assert server[1] == [] and len(page.asked) == 1


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('width', [1280, 390])
def test_nothing_is_wider_than_the_window(pages, width, scheme):
  with pages(width, scheme) as page:
    for words in ('', 'document.title'):
      page.get_by_label('Text', exact=True).fill(words)
      real_browser.check_looks(page, width, scheme)


def test_a_page_of_many_questions_is_bounded(pages):
  with pages() as page:
    assert page.evaluate('document.documentElement.outerHTML.length') < 4e6
    text = page.locator('#browser').inner_text()
    assert 'The 2,000 of ' in text and 'in predictions/' in text


def test_without_scripts_the_page_says_what_is_missing(pages):
  with pages(script=False) as page:
    assert page.locator('#table table').is_visible()
    assert 'needs JavaScript' in page.locator('#browser').inner_text()
