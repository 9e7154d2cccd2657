"""Tests of screens that show rows and predictions: these do nothing there."""

import json
import types
import unicodedata

import pytest
import seqio

from dss_jax import cli, mixtures, screen

_HOSTILE = '[/red] [bold]b[/] \x1b[2J\x1b]0;t\x07 \x9b31m \u202egnp.exe :smile:'


def _is_harmless(shown):
  return all(
    c in '\n\t' or unicodedata.category(c) not in ('Cc', 'Cf', 'Cs')
    for c in shown
  )


def test_rows_do_nothing_when_they_are_inspected(tmp_path, tfds_dir, capsys):
  folder = tmp_path / '[red] a'
  folder.mkdir()
  path = folder / '[bold] rows.jsonl'
  rows = [
    {
      'input': f'{_HOSTILE} {n}',
      'label': f'{_HOSTILE} {n % 2}' if n else '',
      'rationale': _HOSTILE if n % 3 else '',
    }
    for n in range(20)
  ]
  path.write_text('\n'.join(map(json.dumps, rows)))
  cli.main(['data', 'inspect', str(path)])
  shown = capsys.readouterr().out
  assert _is_harmless(shown), shown
  assert '[/red] [bold]b[/]' in shown


@pytest.mark.parametrize('column', ['[/red]\x1b[2J', '\x9b'])
def test_names_in_an_error_do_nothing(tmp_path, tfds_dir, capsys, column):
  path = tmp_path / 'rows.jsonl'
  path.write_text(json.dumps({column: 'a'}))
  for name in ('input', column):
    with pytest.raises(SystemExit) as left:
      cli.main(['data', 'inspect', str(path), '--column', f'label={name}'])
    assert left.value.code == 2
  assert _is_harmless(''.join(capsys.readouterr()))


def test_predictions_do_nothing_on_the_last_screen(tmp_path, tfds_dir, capsys):
  folder = tmp_path / '[red]run[/]'
  experiment = mixtures.Experiment('cqa')
  mixture = mixtures.eval_mixture(experiment)
  tasks = [task.name for task in seqio.MixtureRegistry.get(mixture).tasks]
  (folder / 'inference_eval').mkdir(parents=True)
  row = {
    'input': {'inputs_pretokenized': f'predict: {_HOSTILE}'},
    'prediction': _HOSTILE,
    'target': f'{_HOSTILE}!',
  }
  for task in tasks:
    path = folder / 'inference_eval' / f'{task}-000007.jsonl'
    path.write_text(json.dumps(row) + '\n')
  action = screen.Screen(
    mixture, str(folder), 7, '/a/[/red]\x1b[2J', experiment
  )
  metrics = {
    task: {'accuracy': 50.0, 'accuracy_low': 1.0, 'accuracy_high': 99.0}
    for task in tasks
  }
  for step in (6, 7):
    action.run(types.SimpleNamespace(step=step), metrics)
  shown = capsys.readouterr().out
  assert _is_harmless(shown), shown
  assert 'predicted label      [/red] [bold]b[/]' in shown
  assert '[red]run[/]' in shown and 'test example 1' in shown
