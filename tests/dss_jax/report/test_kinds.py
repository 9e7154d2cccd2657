"""Reports of runs that learn several kinds of rationales."""

import json

from dss_jax.report import answered, charts, runs, scores, settings
from tests.dss_jax.report import made_run


def with_kinds(folder):
  """A run of two kinds: the second one answers `write: …`, in capitals."""
  run_dir = made_run.write(folder)
  config = run_dir / 'config.gin'
  kinds = (('thought', 3), ('program', 1, 'write: '))
  config.write_text(f'{config.read_text()}\nRATIONALE_KINDS = {kinds!r}\n')
  for path in [*run_dir.glob('inference_eval/*_rationale_palm*')]:
    other = path.with_name(
      path.name.replace('_rationale_palm', '_rationale2_palm.program')
    )
    lines = []
    for text in path.read_text().splitlines():
      row = json.loads(text)
      if 'input' in row:
        inputs = row['input']
        inputs['inputs_pretokenized'] = inputs['inputs_pretokenized'].replace(
          'explain: ', 'write: '
        )
        row['prediction'] = str(row['prediction']).upper()
      lines.append(f'{json.dumps(row)}\n')
    other.write_text(''.join(lines))
  train = run_dir / 'train' / 'metrics.jsonl'
  lines = [json.loads(line) for line in train.read_text().splitlines()]
  for row in lines:
    if row['step']:
      row |= {'rationale_loss/thought': 1.0, 'rationale_loss/program': 2.0}
  train.write_text(''.join(f'{json.dumps(row)}\n' for row in lines))
  return run_dir


def test_each_kind_has_its_loss_its_scores_and_its_answers(tmp_path):
  (run,) = runs.read([with_kinds(tmp_path)])
  assert [kind.name for kind in run.kinds] == ['thought', 'program']
  assert 'rationales of palm: thought (0.75), program (0.25)' in (
    settings.about(run)
  )
  titles = [panel.title for panel in charts.panels([run])]
  assert 'Loss of rationales (thought)' in titles
  assert 'Loss of rationales (program)' in titles
  named = {of for of, _, _ in scores.others([run])}
  assert {'rationales (thought), test', 'rationales (program), test'} <= named
  answers = answered.Answers([run])
  (task,) = [t for t in run.label_tasks() if t.split == 'test']
  given = answers.of(run, task).answers[0]
  thought, program = given.rationale.split('\n')
  assert thought.startswith('thought: ')
  assert program == f'program: {thought.removeprefix("thought: ").upper()}'


def test_a_configuration_that_is_no_data_has_one_kind(tmp_path):
  run_dir = made_run.write(tmp_path)
  config = run_dir / 'config.gin'
  config.write_text(f'{config.read_text()}\nRATIONALE_KINDS = @kinds()\n')
  (run,) = runs.read([run_dir])
  assert [kind.name for kind in run.kinds] == ['']
