"""A whole report, of a study that is finished or not."""

import html
import json
import re
import shutil

import pytest

from dss_jax import errors
from dss_jax.report import texts
from dss_jax.study import report, results
from dss_jax.study.report import answers, browser, cells, figures, writing
from tests.dss_jax.study import finished_run

_SKILL = {'finetune': 0.4, 'dss': 0.8}
_HOSTILE = (
  '</script><script>document.title = "taken"</script>'
  '<img src=x onerror="document.title=1"> \x1b[31m \u202e'
)


@pytest.fixture(scope='module')
def study(tmp_path_factory):
  """A report on two sizes, two fractions, two methods and three seeds."""
  out = tmp_path_factory.mktemp('study')
  found = finished_run.write_study(
    out,
    _SKILL,
    fractions=(0.5, 1.0),
    sizes=('tiny', 'small'),
    questions=40,
    predictions=dict.fromkeys(range(40), _HOSTILE),
    rationales=dict.fromkeys(range(40), f'because {_HOSTILE}'),
  )
  report.write(out, planned=48)
  return out, found


def _data(page):
  (text,) = re.findall(
    r'<script type="application/json" id="data">(.*?)</script>', page
  )
  return json.loads(text)


def test_a_report_has_its_files(study):
  out, found = study
  names = {path.name for path in out.iterdir()}
  assert names == {
    *('results.jsonl', 'results.csv', 'predictions', 'summary.md', 'runs'),
    *('accuracy_by_fraction.png', 'accuracy_by_fraction.svg'),
    *('accuracy_by_size.png', 'accuracy_by_size.svg', 'report.html'),
  }
  assert len(list((out / 'predictions').iterdir())) == len(found) == 24
  summary = (out / 'summary.md').read_text()
  assert '24 of 48 runs are finished.' in summary
  assert 'dss is better than finetune' in summary
  assert '![accuracy_by_size](accuracy_by_size.png)' in summary


def test_a_terminal_shows_what_came_out(tmp_path, monkeypatch, capsys):
  finished_run.write_study(tmp_path, _SKILL, questions=40)
  monkeypatch.setenv('COLUMNS', '80')
  report.write(tmp_path, planned=7)()
  lines = capsys.readouterr().out.splitlines()
  assert lines[0] == '6 of 7 runs are finished.'
  assert lines[2].split()[:4] == ['trained', 'on', 'seeds', 'accuracy']
  place, first, second = (line.split() for line in lines[4:7])
  assert place[:2] == ['all', 'rows']
  assert first[:2] == ['finetune', '3'] and second[:2] == ['dss', '3']
  assert ' '.join(second[5:]) == '+35.0 −18.2 to +83.8 0.106'
  text = ' '.join(' '.join(lines).split())
  assert 'The data do not decide between dss and finetune' in text
  assert all(len(line) <= 80 for line in lines)


def test_an_axis_names_no_accuracy_above_all():
  facet = figures.Facet('', {1.0: 'all'}, (), {}, 'rows', (96.2, 101.0))
  shown = re.findall(r'<text[^>]*>(\d+)</text>', figures.inline(facet, 'x'))
  assert shown == ['97', '98', '99', '100']


def test_texts_of_figures_stay_texts(study):
  out, _ = study
  picture = (out / 'accuracy_by_fraction.svg').read_text()
  for text in ('finetune', 'dss', 'tiny', 'the teacher itself (palm): 90.0'):
    assert re.search(f'<text[^>]*>{re.escape(text)}</text>', picture), text
  assert 'size of the model' in (out / 'accuracy_by_size.svg').read_text()


def test_the_page_has_figures_table_curves_and_questions(study):
  out, _ = study
  page = (out / 'report.html').read_text()
  # 2 + 2 figures, and two pictures of curves for each of four cells.
  assert page.count('<svg ') == 12
  assert '<title>dss_f1_s2_small</title>' in page
  assert 'The dashed line is the teacher itself' in page
  ids = re.findall(r' id="([^"]*)"', page)
  assert len(ids) == len(set(ids))
  assert "default-src 'none'" in page
  assert not re.search(r'(?:src|href)="(?!#)', page)
  data = _data(page)
  assert data['methods'] == ['finetune', 'dss']
  assert len(data['places']) == 4
  assert data['items'] and all(len(item) == 5 for item in data['items'])


def test_hostile_text_is_in_the_page_as_data_only(study):
  out, _ = study
  page = (out / 'report.html').read_text()
  assert sum('document.title' in text for text in _data(page)['texts']) == 2
  data = re.sub(r'<script type="application/json".*?</script>', '', page)
  assert 'document.title' not in data
  assert '\x1b' not in page and '\u202e' not in page


def test_a_report_is_the_same_when_it_is_written_again(study):
  out, _ = study
  before = {
    path.name: path.read_bytes() for path in out.iterdir() if path.is_file()
  }
  report.write(out, planned=48)
  after = {
    path.name: path.read_bytes() for path in out.iterdir() if path.is_file()
  }
  assert before == after


def test_a_study_without_results_has_a_page_that_says_so(tmp_path):
  report.write(tmp_path, planned=4)
  assert '0 of 4 runs are finished.' in (tmp_path / 'summary.md').read_text()
  page = (tmp_path / 'report.html').read_text()
  assert 'The report fills as runs finish.' in page
  assert not list(tmp_path.glob('accuracy*'))


def test_a_study_that_has_begun_is_shown(tmp_path):
  found = finished_run.write_study(tmp_path, _SKILL, seeds=1, questions=20)
  results.write(tmp_path, found[1:])
  report.write(tmp_path, ['finetune', 'dss'], planned=2)
  page = (tmp_path / 'report.html').read_text()
  assert '1 of 2 runs are finished.' in page
  assert 'id="browser"' not in page and 'id="differs"' not in page
  summary = (tmp_path / 'summary.md').read_text()
  assert 'best on test¹ |\n' in summary and 'difference' not in summary
  # Of a single seed, the interval for its questions.
  assert re.search(r'\| dss \| 1 \| [\d.]+ \([\d.]+ to [\d.]+\) \|', summary)
  results.write(tmp_path, found)
  report.write(tmp_path, ['finetune', 'dss'], planned=2)
  text = html.unescape((tmp_path / 'report.html').read_text())
  assert 'dss is not tested against finetune with all rows' in text
  assert not (tmp_path / 'accuracy_by_size.png').exists()


def test_runs_whose_folder_is_gone_keep_all_but_their_curves(tmp_path):
  finished_run.write_study(tmp_path, _SKILL, questions=20)
  report.write(tmp_path)
  shutil.rmtree(tmp_path / results.RUNS)
  before = (tmp_path / 'summary.md').read_text()
  report.write(tmp_path)
  assert (tmp_path / 'summary.md').read_text() == before
  page = (tmp_path / 'report.html').read_text()
  assert 'id="browser"' in page and 'id="curves"' not in page


def test_questions_are_bounded_and_those_shown_differ_most(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(browser, 'MOST_QUESTIONS', 5)
  monkeypatch.setattr(browser, '_FEWEST_PER_CELL', 5)
  found = finished_run.write_study(
    tmp_path,
    _SKILL,
    questions=60,
    rationales={n: 'long ' * 1000 for n in range(60)},
  )
  for run in found:
    answers.prepare(tmp_path, run)
  table = cells.arrange(found)
  questions = browser.collect(answers.Marks(tmp_path), table)
  assert questions.shown == 5 < questions.found
  gaps = [
    abs(given[0][1] / given[0][2] - given[1][1] / given[1][2])
    for *_, given in questions.data['items']
  ]
  assert gaps == sorted(gaps, reverse=True) and gaps[0] == 1
  longest = max(map(len, questions.data['texts']))
  assert longest < texts._MOST_CHARACTERS + 40


def test_what_is_missing_is_named(monkeypatch):
  monkeypatch.setattr(writing, '_NEEDED', ('matplotlib', 'no_such_module'))
  with pytest.raises(
    errors.DataError, match=r'needs no_such_module.*\[study\]'
  ):
    report.require()
