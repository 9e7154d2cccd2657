"""A student of several kinds of rationales gives each when it is asked."""

import json

import pytest

import dss_jax
from dss_jax import cli, errors
from dss_jax.student import loading, usage
from t5x import checkpoints
from tests.dss_jax.student import small_run

KINDS = (('thought', 0.7), ('program', 0.3, 'write: '))
_PREFIXES = (('thought', 'explain: '), ('program', 'write: '))


def test_a_run_says_how_it_is_asked_for_each_kind():
  run = str(small_run.made(RATIONALE_KINDS=KINDS))
  checkpoint = checkpoints.find_checkpoint(run, None)
  _, found, _ = loading.of_run(run, checkpoint)
  assert found.kinds == _PREFIXES
  assert found.prefix_of(None) == 'explain: '
  assert found.prefix_of('program') == 'write: '
  with pytest.raises(errors.DataError, match="Did you mean 'program'"):
    found.prefix_of('progam')
  # Through the file of an exported student.
  written = json.loads(json.dumps(usage.as_json(found)))
  assert usage.from_json(written, 'here') == found
  written.pop('kinds')
  assert usage.from_json(written, 'here').kinds == (('', 'explain: '),)
  with pytest.raises(errors.DataError, match='expected kinds to be pairs'):
    usage.from_json({'kinds': ['thought']}, 'here')


@pytest.mark.slow
def test_each_kind_is_asked_for(tmp_path, capsys):
  run = str(small_run.made(RATIONALE_KINDS=KINDS))
  student = dss_jax.load(run)
  texts = list(small_run.TEXTS[:3])
  assert student.kinds == ('thought', 'program')
  said = {kind: student.explain(texts, kind) for kind in student.kinds}
  assert student.explain(texts) == said['thought'] != said['program']
  cli.main(['ask', run, texts[0], '--no-probabilities'])
  shown = capsys.readouterr().out
  assert '  thought  ' in shown and '  program  ' in shown
  cli.main(['ask', run, texts[0], '--kind', 'program', '--no-probabilities'])
  shown = capsys.readouterr().out
  assert '  thought  ' not in shown and '  program  ' in shown
  rows = tmp_path / 'rows.txt'
  rows.write_text('\n'.join(texts))
  out = tmp_path / 'answers.jsonl'
  asked = ['ask', run, '--file', str(rows), '--out', str(out), '--explain']
  cli.main(asked)
  lines = [json.loads(line) for line in out.read_text().splitlines()]
  for kind, expected in said.items():
    column = f'predicted_rationale.{kind}'
    assert [line[column] for line in lines] == expected
