"""Lines that a run prints fit 80 columns, and hold nothing empty."""

import json
import types

import seqio

from dss_jax import mixtures, screen


def test_scores_are_a_line_and_a_missing_rationale_is_none(
  tmp_path, tfds_dir, capsys
):
  del tfds_dir
  experiment = mixtures.Experiment('cqa')
  mixture = mixtures.eval_mixture(experiment)
  names = [task.name for task in seqio.MixtureRegistry.get(mixture).tasks]
  labels = [name for name in names if '_label_' in name]
  (tmp_path / 'inference_eval').mkdir()
  for name in labels:
    path = tmp_path / 'inference_eval' / f'{name}-000600.jsonl'
    row = {'prediction': 'car', 'target': 'car'}
    path.write_text(json.dumps(row) + '\n')
  metrics = {
    name: {'accuracy': 94.0, 'accuracy_low': 87.52, 'accuracy_high': 100.0}
    for name in labels
  }
  action = screen.Screen(mixture, str(tmp_path), 600, '', experiment)
  capsys.readouterr()
  action.run(types.SimpleNamespace(step=300), metrics)
  (line,) = capsys.readouterr().out.splitlines()
  assert len(line) <= 80
  assert line.startswith('step 300, label accuracy: ')
  assert 'test 94.0% (87.5–100.0)' in line
  # As where the file of test rows has no rationales.
  action.run(types.SimpleNamespace(step=600), metrics)
  shown = capsys.readouterr().out.splitlines()
  (at,) = (n for n, line in enumerate(shown) if 'predicted label' in line)
  assert shown[at + 1].startswith('╰')
