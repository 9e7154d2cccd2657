"""The page of `dss report`, of one run and of several."""

import html
import json
import re

import pytest
from click import testing

from dss_jax import errors
from dss_jax.report import command, mistakes, writing
from tests.dss_jax.report import made_run

_HOSTILE = (
  '</script><script>document.title = "taken"</script>'
  '<img src=x onerror="document.title=1"> \x1b[31m \u202e $x_'
)


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
  """A run of each method; one answers with hostile texts."""
  out = tmp_path_factory.mktemp('runs')
  return [
    made_run.write(
      out,
      'dss',
      predictions={1: _HOSTILE},
      rationales={1: f'because {_HOSTILE}'},
    ),
    made_run.write(out, 'finetune', [True, True, False, True, False] * 4),
  ]


def _page(folders, out):
  writing.write(folders, out)
  return out.read_text()


@pytest.fixture(scope='module')
def one(folders, tmp_path_factory):
  return _page(folders[:1], tmp_path_factory.mktemp('one') / 'report.html')


@pytest.fixture(scope='module')
def both(folders, tmp_path_factory):
  return _page(folders, tmp_path_factory.mktemp('both') / 'report.html')


def _data(page):
  (text,) = re.findall(
    r'<script type="application/json" id="data">(.*?)</script>', page
  )
  return json.loads(text)


def _text(page):
  """What a page says outside of its charts, scripts and styles."""
  shown = re.sub(r'<(script|style|svg)\b.*?</\1>', '', page, flags=re.DOTALL)
  return ' '.join(html.unescape(re.sub(r'<[^>]*>', ' ', shown)).split())


def test_the_page_of_one_run_says_what_it_is_and_how_good(one):
  text = _text(one)
  assert 'Distilling step by step · gold labels' in text
  assert 'accuracy on test 60.0% 38.7 to 78.1, 20 examples' in text
  assert 'test 60.0% 38.7 to 78.1 50% 100%' not in text
  assert 'Missing' not in text and 'Finished: step 60 of 60.' in text
  assert 'rationales, test BLEU 7.0' in text
  # The step before the last had all right.
  assert '40 (100.0%)' in text


def test_curves_say_what_one_sees(one):
  text = _text(one)
  for said in (
    'Loss of labels On train it falls from 5 to 3; on validation it is lowest'
    ' at step 40, 3, and 3.2 at the end.',
    'Loss of rationales On train it falls from 6 to 4;',
    'Validation ends at 60.0, after 100.0 at step 40; test ends at 60.0,',
    'Shaded: the 95% interval.',
    'Learning rate Highest at step 60, 0.06.',
    'Tokens per second Median 1,040.',
    'Norm of gradients Median 1.',
    'BLEU of rationales',
  ):
    assert said in text, said


def test_confusion_counts_what_was_taken_for_what(one):
  text = _text(one)
  assert 'gold pond desert attic orchard harbor none of them' in text
  cells = re.findall(
    r'data-place="test" data-gold="(\d)" data-said="(\w+)"[^>]*>(\d+)<', one
  )
  # The classes take turns, and the second and fifth of five are wrong.
  assert ('0', '0', '4') in cells and ('4', '0', '4') in cells
  assert ('1', '2', '3') in cells and ('1', 'none', '1') in cells
  assert sum(int(count) for _, _, count in cells) == 20


def test_mistakes_come_first_with_both_rationales(one):
  data = _data(one)
  texts, items = data['texts'], data['items']
  assert data['start'] == 'wrong' and data['places'] == ['validation', 'test']
  assert len(items) == 40
  right = [given[0][1] for *_, given in items]
  assert right == sorted(right) and right.count(0) == 16
  place, question, gold, teacher, [[run, good, seeds, answer, own]] = items[1]
  assert texts[question].startswith('Where does animal')
  assert texts[teacher].startswith('Animal') and texts[own].startswith('Animal')
  assert texts[gold] in made_run.CLASSES and not good and seeds == 1
  assert [texts[n] for n in data['classes']] == list(made_run.CLASSES)
  assert place in (0, 1) and run == 0 and len(answer) == 1


def test_what_was_cut_or_left_out_is_there(one):
  text = _text(one)
  assert '900 train, 100 validation, 400 test' in text
  assert 'left out 10 without rationale' in text
  assert '0 inputs and 12 targets of 890 examples lose their end' in text
  assert 'teacher right 810 of 890 (91.0%)' in text
  assert '16 label examples in 8 rows of 512 input and 192 target' in text


def test_several_runs_are_compared(both):
  text = _text(both)
  assert 'dss_f1_s0 and finetune_f1_s0' in text
  assert 'METHOD' in text.partition('What differs')[2][:400]
  # Of 20 test questions: 8 right in both, 4 each in one, 4 in none.
  assert 'finetune_f1_s0 test 8 4 4 4' in text
  assert 'Solid: train; dashed: validation.' in text
  data = _data(both)
  assert data['methods'] == ['dss_f1_s0', 'finetune_f1_s0']
  assert data['start'] == '' and len(data['items']) == 40
  marks = [{given[1] for given in item[4]} for item in data['items']]
  # Where they differ first, then mistakes of both, then what both have right.
  assert [len(m) for m in marks] == [2] * 16 + [1] * 24
  assert marks[16:] == [{0}] * 8 + [{1}] * 16


@pytest.mark.parametrize('name', ['one', 'both'])
def test_hostile_texts_are_data_only_and_nothing_is_loaded(name, request):
  page = request.getfixturevalue(name)
  assert sum('document.title' in text for text in _data(page)['texts']) == 2
  data = re.sub(r'<script type="application/json".*?</script>', '', page)
  assert 'document.title' not in data
  assert '\x1b' not in page and '\u202e' not in page
  assert "default-src 'none'" in page
  assert not re.search(r'(?:src|href)="(?!#)', page)
  ids = re.findall(r' id="([^"]*)"', page)
  assert len(ids) == len(set(ids))


def test_hostile_names_of_runs_tasks_and_settings_stay_text(tmp_path):
  run_dir = made_run.write(tmp_path)
  config = run_dir / 'config.gin'
  config.write_text(f'{config.read_text()}\nX = "{_HOSTILE}"\n')
  (run_dir / 'commands.jsonl').write_text(
    json.dumps({'command': ['/x.py', _HOSTILE], 'devices': {_HOSTILE: 1}})
    + '\n'
  )
  for path in run_dir.glob('inference_eval/*label_test*'):
    path.rename(path.with_name(path.name.replace('cqa', '<b>$a_')))
  hostile = tmp_path / '<i>$x_\u202e'
  run_dir.rename(hostile)
  page = _page([hostile, made_run.write(tmp_path, 'finetune')], tmp_path / 'p')
  for mark in ('<b>', '<i>', '<img', '<script>d', '\x1b', '\u202e'):
    assert mark not in page, mark
  assert '⟨U+202E⟩' in page


def test_a_run_of_another_model_has_what_there_is(tmp_path):
  page = _page([made_run.write_other(tmp_path)], tmp_path / 'report.html')
  text = _text(page)
  assert 'A model trained on wmt_ende' in text
  # The interval of one right answer of two.
  assert 'glue_cola 50.0% 9.5 to 90.5' in text
  assert 'wmt_ende BLEU 21.5' in text and 'BLEU of wmt_ende' in text
  assert 'Loss On train it falls from 4 to 3.' in text
  assert 'dss ask' not in text and 'No commands.jsonl' in text


def test_a_folder_with_nothing_but_a_configuration_has_a_page(tmp_path):
  (tmp_path / 'run').mkdir()
  (tmp_path / 'run' / 'config.gin').write_text('TRAIN_STEPS = 5\n')
  text = _text(_page([tmp_path / 'run'], tmp_path / 'report.html'))
  assert 'No evaluation of predictions yet' in text
  assert 'TRAIN_STEPS' in text


def test_answers_are_bounded(tmp_path, monkeypatch):
  monkeypatch.setattr(mistakes, 'MOST', 1)
  page = _page([made_run.write_other(tmp_path)], tmp_path / 'report.html')
  ((*_, [[_, good, *_]]),) = _data(page)['items']
  assert not good
  assert 'Here are 1 of the examples, mistakes first' in _text(page)


def test_the_command_says_where_the_page_is(tmp_path):
  out = tmp_path / 'new' / 'page.html'
  run_dir = made_run.write_other(tmp_path)
  found = testing.CliRunner().invoke(
    command.report, [str(run_dir), '--out', str(out)]
  )
  assert found.exit_code == 0, found.output
  assert found.output.startswith(f'{out}: open it in a browser')
  assert f'python -m webbrowser {out.as_uri()}' in found.output
  assert [path.name for path in out.parent.iterdir()] == ['page.html']


def test_a_page_that_cannot_be_made_leaves_the_old_one(tmp_path):
  out = tmp_path / 'report.html'
  out.write_text('old')
  with pytest.raises(errors.DataError, match='expected the folder of a run'):
    writing.write([tmp_path / 'none'], out)
  assert out.read_text() == 'old'


def test_what_is_missing_is_named(monkeypatch, tmp_path):
  monkeypatch.setattr(writing, '_NEEDED', ('matplotlib', 'no_such_module'))
  with pytest.raises(
    errors.DataError, match=r'needs no_such_module.*\[report\]'
  ):
    writing.write([tmp_path], tmp_path / 'report.html')
