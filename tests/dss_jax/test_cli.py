"""Tests of the command `dss`, and of the tasks on the other samples."""

import importlib.metadata
import json
import re
import subprocess
import sys

import pytest
import seqio

from dss_jax import cli, mixtures
from dss_jax.data import own_rows, records, tfds_builders


@pytest.fixture
def rows(tmp_path):
  """A file of own rows, with several rationales each."""
  path = tmp_path / 'rows.jsonl'
  lines = [
    {
      'q': f'A {n}.</s>B {n}.',
      'label': 'yes' if n % 2 else 'no',
      'rationale': [f'first {n}', f'second {n}'],
      'teacher_label': 'yes',
    }
    for n in range(20)
  ]
  path.write_text('\n'.join(map(json.dumps, lines)))
  return str(path)


def test_inspect_shows_what_training_sees(rows, tfds_dir, capsys):
  cli.main(['data', 'inspect', rows, '--column', 'input=q', '--inputs', '4'])
  shown = capsys.readouterr().out
  assert 'dss_custom_local_' in shown
  assert 'test rows whose input is in train too: 0' in shown
  assert '5\n  inputs, 4 tokens' in shown
  assert "--gin.TASK_FEATURE_LENGTHS=\"{'inputs': " in shown
  assert not tfds_dir.exists()


def test_inspect_cuts_at_the_lengths_of_the_run(tmp_path, capsys):
  """Those of its size, not those of fine-tuning a T5."""
  path = tmp_path / 'rows.csv'
  # A piece for each letter: 148 to 156 input tokens, 82 to 90 target tokens.
  lines = [f'{"x" * (140 + n)},yes,{"y" * (80 + n)}' for n in range(9)]
  path.write_text('\n'.join([' input , label ,rationale', *lines]))
  options = ['--validation', '0.01', '--test', '0.01']
  cli.main(['data', 'inspect', str(path), *options])
  shown = capsys.readouterr().out
  assert 'Longer than 120 input or 80 target tokens' in shown
  assert 'of 7 examples of custom_local_' in shown
  assert "To keep all: --gin.TASK_FEATURE_LENGTHS=\"{'inputs': " in shown
  cli.main(['data', 'inspect', str(path), *options, '--size', 'base'])
  shown = capsys.readouterr().out
  assert 'Longer than' not in shown
  (tmp_path / 'mine.gin').write_text(
    "PACKED_ROW = {'inputs': 64, 'targets': 9}"
  )
  files = ['--gin_file', str(tmp_path / 'mine.gin'), '--targets', '8']
  cli.main(['data', 'inspect', str(path), *options, '--size', 'base', *files])
  shown = capsys.readouterr().out
  assert 'Longer than 64 input or 8 target tokens' in shown


def test_inspect_reads_a_folder_of_shards(tmp_path, capsys):
  for number in range(2):
    rows = [{'input': f'case {n} of {number}', 'label': 'a'} for n in range(9)]
    (tmp_path / f'part-{number}.json').write_text(json.dumps(rows))
  cli.main(['data', 'inspect', str(tmp_path), '--method', 'finetune'])
  shown = ' '.join(capsys.readouterr().out.split())
  assert 'train 14 0' in shown
  assert 'train, no rationale: ' in shown and 'part-1.json, line 1' in shown


def test_inspect_counts_the_sample(tfds_dir, capsys):
  cli.main(['data', 'inspect', 'sample', '--data-set', 'svamp'])
  shown = capsys.readouterr().out
  report = records.read('svamp', tfds_builders.sample_location()).reports[
    'train'
  ]
  assert f'{100 * report.teacher_accuracy:.3f}%' in shown
  assert 'train, no teacher label: ' in shown


def test_prepare_writes_what_training_reads(rows, tfds_dir, capsys):
  cli.main(['data', 'prepare', rows, '--column', 'input=q'])
  shown = capsys.readouterr().out
  for count in ('train 16', 'validation 2', 'test 2'):
    assert count in shown
  assert list((tfds_dir / 'dss_custom').glob('local_*_teacher/1.1.0'))


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['inspect', 'nowhere'], 'found nothing there'),
    (['inspect', 'sample', '--size', 'bsae'], 'gin/sizes/bsae.gin'),
    (['inspect', 'sample', '--inputs', '0'], '0 is not in the range'),
    (['inspect', 'rows.jsonl'], 'expected a file with rows'),
    (['inspect', 'sample', '--data-set', 'svmap'], "Did you mean 'svamp'?"),
    (['inspect', 'release'], 'expected files to look at'),
    (['inspect', 'a.jsonl', '--column', 'x'], 'expected NAME=COLUMN'),
  ],
)
def test_a_mistake_is_one_message_and_exit_code_2(arguments, message, capsys):
  with pytest.raises(SystemExit) as stopped:
    cli.main(['data', *arguments])
  assert stopped.value.code == 2
  error = capsys.readouterr().err
  assert message in error
  assert 'Traceback' not in error


def test_the_end_text_becomes_the_end_token_and_rationales_are_drawn(
  rows, tfds_dir
):
  own = own_rows.OwnData(rows, columns={'input': 'q'})
  vocabulary = seqio.ByteVocabulary()
  name = mixtures.train_mixture(
    data_set='custom', data=own, vocabulary=vocabulary
  )
  label, rationale = seqio.get_mixture_or_task(name).tasks
  example = next(
    label.get_dataset(None, 'train', shuffle=False).as_numpy_iterator()
  )
  tokens = example['inputs'].tolist()
  parts = example['inputs_pretokenized'].decode().split('</s>')
  encoded = [[*vocabulary.encode(part), vocabulary.eos_id] for part in parts]
  assert tokens == [token for part in encoded for token in part]

  def epochs(seed):
    dataset = rationale.get_dataset(
      None, 'train', shuffle=True, seed=seed, num_epochs=4
    )
    texts = dataset.map(lambda x: x['targets_pretokenized'])
    return [text.decode() for text in texts.as_numpy_iterator()]

  drawn = epochs(3)
  assert drawn == epochs(3) != epochs(4)
  by_row = {}
  for text in drawn:
    by_row.setdefault(text.split()[1], []).append(text)
  assert {len(texts) for texts in by_row.values()} == {4}
  # Of 16 rows drawn four times each, most show both of theirs.
  assert sum(len(set(texts)) == 2 for texts in by_row.values()) > 8


def test_only_rationales_of_right_answers_can_be_trained_on(rows, tfds_dir):
  own = own_rows.OwnData(rows, columns={'input': 'q'})
  experiment = mixtures.Experiment(
    'custom', own, which_rationales='correct_only'
  )
  mixtures.register(experiment)
  assert mixtures.train_name(experiment).endswith('_correct')
  label, rationale = seqio.get_mixture_or_task(
    mixtures.train_name(experiment)
  ).tasks
  right = own_rows.read(own).splits['train']
  count = sum(row.teacher_label == row.label for row in right)
  assert label.num_input_examples('train') == 16
  assert rationale.num_input_examples('train') == count < 16


@pytest.mark.parametrize(
  ('data_set', 'rows'),
  [('svamp', 160), ('asdiv', 220), ('esnli', 120), ('anli1', 120)],
)
def test_the_samples_have_the_real_ones_faults(data_set, rows):
  release = records.read(data_set, tfds_builders.sample_location())
  report = release.reports['train']
  assert report.rows == rows
  assert report.duplicates == 0
  assert 0.68 < report.teacher_accuracy < 0.82
  assert 0 < report.empty_labels < 0.1 * rows
  inputs = [{row.input for row in part} for part in release.splits.values()]
  assert len(set.union(*inputs)) == sum(map(len, inputs))


def test_help_lists_the_commands_and_imports_none_of_them():
  code = (
    'import sys; from dss_jax import cli\n'
    'try: cli.main(["--help"])\n'
    'finally:\n'
    '  bad = {"tensorflow", "seqio", "jax", "absl"} & set(sys.modules)\n'
    '  bad |= {m for m in sys.modules if m.endswith("command")}\n'
    '  assert not bad, bad\n'
  )
  found = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True
  )
  assert found.returncode == 0, found.stderr
  assert not found.stderr
  assert re.search(r'data +Looks at data', found.stdout)


def test_the_version_is_the_one_that_is_installed(capsys):
  cli.main(['--version'])
  # After a change of the version: pip install -e . again.
  installed = importlib.metadata.version('dss-jax')
  assert capsys.readouterr().out == f'dss, version {installed}\n'


def test_a_command_writes_nothing_but_its_own_to_standard_error(tmp_path):
  found = subprocess.run(
    [sys.executable, '-m', 'dss_jax.cli', 'data', 'prepare', 'sample',
     '--data-set', 'svamp', '--tfds-data-dir', str(tmp_path)],
    capture_output=True, text=True,
  )  # fmt: skip
  assert found.returncode == 0
  own = r'Preparing sample\nloading libraries +[\d.]+ s\n'
  assert re.fullmatch(own, found.stderr)
  assert 'dss_svamp/sample_palm: train 160, test 40' in found.stdout


def test_an_unknown_command_is_answered_with_the_closest(capsys):
  with pytest.raises(SystemExit) as stopped:
    cli.main(['dta'])
  assert stopped.value.code == 2
  error = capsys.readouterr().err
  assert "There is no command 'dta'" in error
  assert "Did you mean 'data'?" in error


@pytest.mark.parametrize('late', [False, True])
def test_a_missing_package_is_told_with_the_command_that_installs_it(
  late, monkeypatch, capsys, tmp_path
):
  needs = 'import no_such_package'
  within = f'import click\n@click.command()\ndef needy(): {needs}\n'
  (tmp_path / 'needy.py').write_text(within if late else needs)
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.setitem(cli._COMMANDS, 'needy', cli._Command('needy', '', 'ex'))
  monkeypatch.delitem(sys.modules, 'needy', raising=False)
  with pytest.raises(SystemExit) as stopped:
    cli.main(['needy'])
  assert stopped.value.code == 2
  error = capsys.readouterr().err
  assert "`dss needy` needs the package 'no_such_package'" in error
  assert "pip install 'dss-jax[ex]'" in error


@pytest.mark.parametrize(
  ('raised', 'code', 'told'),
  [
    ('KeyboardInterrupt', 130, 'SIGINT: ended. What is complete stays'),
    ('MemoryError', 2, 'Error: Memory ran out: MemoryError'),
    (
      "OSError(30, 'Read-only file system', '/x')",
      2,
      'Error: /x: cannot be written',
    ),
  ],
)
def test_what_ends_a_command_from_outside_is_one_message(
  raised, code, told, monkeypatch, capsys, tmp_path
):
  (tmp_path / 'ended.py').write_text(
    f'import click\n@click.command()\ndef ended(): raise {raised}\n'
  )
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.setitem(cli._COMMANDS, 'ended', cli._Command('ended', '', 'ex'))
  monkeypatch.delitem(sys.modules, 'ended', raising=False)
  with pytest.raises(SystemExit) as stopped:
    cli.main(['ended'])
  assert stopped.value.code == code
  assert capsys.readouterr().err.strip().startswith(told)
