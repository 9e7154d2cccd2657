"""A student answers as `t5x.infer` does: texts, threads, and files of rows."""

import csv
import dataclasses
import itertools
import json
import resource
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest

import dss_jax
import gin
from dss_jax import cli, errors, neutral, questions, run_config
from dss_jax.pipeline.scoring import intervals
from dss_jax.student import (
  answer_files,
  answering,
  batches,
  exported,
  inputs,
  loading,
  row_inputs,
  usage,
)
from t5x import checkpoints, data, infer, partitioning
from t5x.errors import UserError
from t5x.files import folder_lock
from tests.dss_jax.student import small_run

TEXTS, CLASSES = small_run.TEXTS, small_run.CLASSES


@pytest.fixture(scope='module')
def student():
  return dss_jax.load(small_run.made())


@pytest.fixture(scope='module')
def labels(student):
  return student.predict(TEXTS)


def _inferred(run, folder, method='dss', **options):
  """Returns what `t5x.infer` writes for texts with a run's configuration."""
  rows = folder / 'texts.jsonl'
  rows.write_text(''.join(json.dumps({'ticket': t}) + '\n' for t in TEXTS))
  with run_config.configured([str(run / 'config.gin')], []) as bound:
    model = run_config.resolve(bound, 'model')
    name = questions.inputs(
      str(rows), 'custom', '', method, columns={'input': 'ticket'}, **options
    )
    infer.infer(
      mode='predict',
      model=model,
      dataset_cfg=data.DatasetConfig(
        mixture_or_task_name=name,
        task_feature_lengths=run_config.macro('TASK_FEATURE_LENGTHS'),
        split='eval',
        batch_size=8,
        shuffle=False,
        seed=0,
      ),
      restore_checkpoint_cfg=checkpoints.RestoreCheckpointConfig(
        path=str(run), mode='latest'
      ),
      partitioner=partitioning.PjitPartitioner(num_partitions=1),
      output_dir=str(folder),
      checkpoint_period=10,
    )
  (written,) = folder.glob(f'{name}-predict*')
  lines = written.read_text().splitlines()
  return [json.loads(line)['prediction'].strip() for line in lines]


def test_labels_are_those_of_t5x_infer(student, labels, tmp_path):
  assert labels == _inferred(small_run.made(), tmp_path)
  assert len(set(labels)) > 3 and all(labels)
  # In any company, and with blanks around.
  assert student.predict([f' {TEXTS[3]} ']) == [labels[3]]


@pytest.mark.slow
@pytest.mark.parametrize('method', ['dss', 'single_task'])
def test_rationales_are_those_of_t5x_infer(method, tmp_path):
  run = small_run.made(METHOD=method)
  found = dss_jax.load(run).explain(TEXTS)
  explain = method == 'dss'
  assert found == _inferred(run, tmp_path, method, explain=explain)
  assert len(set(found)) > 3


def test_rationales_are_asked_for_with_their_prefix(
  student, labels, monkeypatch
):
  asked, original = [], student.batches.predict

  def seen(tokens):
    asked.append(tokens)
    return original(tokens)

  monkeypatch.setattr(student.batches, 'predict', seen)
  assert len(student.explain(TEXTS)) == len(TEXTS)
  assert student.predict(TEXTS) == labels
  encode = student.model.input_vocabulary.encode
  for prefix, rows in zip(('explain: ', 'predict: '), asked, strict=True):
    assert rows[0] == [*encode(prefix + TEXTS[0]), 1]


def test_rows_are_read_as_in_training(student, labels):
  rows = [{'ticket': text, 'label': 'none'} for text in TEXTS]
  assert student.predict(rows) == labels
  assert student.predict(row for row in rows) == labels
  assert student.predict([{'input': TEXTS[0]}]) == labels[:1]


def test_a_score_counts_what_the_evaluation_counts(student, labels):
  found = student.score(TEXTS, [*labels[:7], 'other', 'car', 'other'])
  assert (found.accuracy, found.n) == (0.7, 10)
  assert (found.low, found.high) == intervals.wilson(7, 10)
  assert str(found) == '70.0% right (95%: 39.7 to 89.2%) of 10'
  assert student.score([], []).n == 0


def test_probabilities_weigh_the_classes_against_each_other(student, labels):
  found = student.predict(TEXTS[:4], probabilities=True)
  assert [answer.label for answer in found] == labels[:4]
  for answer in found:
    assert list(answer.probabilities) == list(CLASSES)
    assert sum(answer.probabilities.values()) == pytest.approx(1.0)
  assert found[0].probabilities != found[1].probabilities


@pytest.mark.slow
def test_probabilities_are_the_models_normalized(student):
  (answer,) = student.predict(TEXTS[:1], probabilities=True)
  vocabulary = student.model.input_vocabulary
  encoded = [[*vocabulary.encode(f'predict: {TEXTS[0]}'), 1]] * 3
  targets = [[*vocabulary.encode(name), 1] for name in CLASSES]
  room = max(map(len, targets))
  target = np.array([np.pad(t, (0, room - len(t))) for t in targets])
  scores = student.model.score_batch(
    checkpoints.load_t5x_checkpoint(student.checkpoint)['target'],
    {
      'encoder_input_tokens': np.array(encoded),
      'decoder_input_tokens': np.pad(target, ((0, 0), (1, 0)))[:, :-1],
      'decoder_target_tokens': target,
      'decoder_loss_weights': target > 0,
    },
  )
  found = list(answer.probabilities.values())
  expected = jax.nn.softmax(scores)
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-9)


def test_threads_take_turns(student, labels):
  found = {}

  def ask(number):
    found[number] = student.predict(TEXTS[number:])

  threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert found == {n: labels[n:] for n in range(4)}


@pytest.mark.slow
def test_a_program_is_compiled_once_for_each_shape(monkeypatch):
  lengths = {'inputs': 48, 'targets': 12}
  asked = dss_jax.load(small_run.made(TASK_FEATURE_LENGTHS=lengths))
  traced = []
  original = asked.model.predict_batch_with_aux

  def counting(params, batch, **options):
    traced.append(batch['encoder_input_tokens'].shape)
    return original(params, batch, **options)

  monkeypatch.setattr(asked.model, 'predict_batch_with_aux', counting)
  texts = [f'{"a car and " * n}' for n in range(1, 13)]
  for _ in range(2):
    for count in (1, 3, 9, 12):
      asked.predict(texts[:count])
      asked.predict(texts[-count:])
  shapes = {
    (rows, length)
    for rows, lengths in asked.batches.shapes.items()
    for length in lengths
  }
  assert len(traced) == len(set(traced)) > 2
  assert set(traced) <= shapes


def test_shapes_are_few_however_long_inputs_may_be():
  found = batches.lengths(512, 1.25)
  assert found[0] == 16 and found[-1] == 512 and len(found) <= 16
  assert all(b <= 1.5 * a for a, b in itertools.pairwise(found))
  assert batches.lengths(5, 2.0) == (5,)
  assert batches.row_counts(100, 1) == (1, 8, 100)
  assert batches.row_counts(100, 8) == (8, 104)
  assert batches.row_counts(4, 1) == (1, 4)


def test_a_text_that_is_cut_is_told(student):
  with pytest.warns(UserWarning, match='1 of 2 texts have more tokens'):
    student.predict(['word ' * 80, 'a car'])


@pytest.mark.parametrize(
  ('ask', 'message'),
  [
    (lambda s: s.predict('one text'), r'expected a list of them.*\[.one text'),
    (lambda s: s.predict({'ticket': 'a'}), 'expected a list of them'),
    (lambda s: s.predict(['a', ' ']), r'texts\[1\]: expected a text'),
    (lambda s: s.predict([None]), r'texts\[0\]: expected a text, found none'),
    (lambda s: s.predict(['a\ud800']), 'half of a surrogate pair'),
    (
      lambda s: s.predict([{'tickt': 'a'}]),
      r"the column 'ticket', which.*found only tickt\. Rename",
    ),
    (lambda s: s.score(['a', 'b'], ['c']), 'a label for each of 2 texts, foun'),
    (lambda s: s.score(['a'], ['']), r'labels\[0\]: expected a text'),
  ],
)
def test_a_callers_mistake_is_named(student, ask, message):
  with pytest.raises(errors.DataError, match=message):
    ask(student)


def test_the_callers_gin_configuration_stays():
  gin.clear_config()
  try:
    gin.parse_config('MINE = 7')
    dss_jax.load(small_run.made())
    assert gin.query_parameter('%MINE') == 7
    assert 'METHOD' not in gin.config_str()
  finally:
    gin.clear_config()


def test_a_step_is_chosen_by_its_number(student):
  run = small_run.made()
  assert student.checkpoint == str(run / 'checkpoint_3')
  assert dss_jax.load(run, 2).checkpoint == str(run / 'checkpoint_2')
  with pytest.raises(UserError, match=r'Steps in .*: \[2, 3\]'):
    dss_jax.load(run, 5)


def test_a_run_that_is_not_there_is_told(tmp_path):
  (tmp_path / 'tickets').mkdir()
  with pytest.raises(errors.DataError, match="Did you mean 'tickets'"):
    dss_jax.load(tmp_path / 'tikets')


def _like(student, **changes):
  how = dataclasses.replace(student.usage, **changes)
  return answering.Student(
    student.model, how, student.checkpoint, student.decode_options
  )


def test_a_single_target_is_taken_apart(student):
  single = _like(student, method='single_task')
  written = 'It is loud. So the answer is violin'
  assert single.label_of(written) == 'violin'
  assert single.rationale_of(written) == 'It is loud.'
  assert single.label_of('It is loud.') == ''
  assert single._compared('violin', written) == 'violin'
  with pytest.raises(errors.DataError, match="'single_task' states its label"):
    single.weighed_classes()


def test_a_student_of_labels_alone_explains_nothing(student):
  alone = _like(student, method='finetune', classes=None)
  with pytest.raises(errors.DataError, match='expected a student that was'):
    alone.explain(TEXTS)
  with pytest.raises(errors.DataError, match=r'Name them: dss_jax\.load'):
    alone.predict(TEXTS[:0], probabilities=True)
  assert alone.predict([]) == []


def test_an_exported_folder_is_used_as_its_run(student, tmp_path, capsys):
  folder = tmp_path / 'student'
  cli.main(['export', str(small_run.made()), str(folder)])
  found = dss_jax.load(folder)
  assert found.usage == student.usage
  assert found.model.module.config == student.model.module.config
  assert found.model.decode_fn.keywords == student.decode_options
  (folder / 'spiece.model').rename(tmp_path / 'spiece.model')
  with pytest.raises(errors.DataError, match='expected the vocabulary spiece'):
    dss_jax.load(folder)


def _tokens(student, texts):
  vocabulary = student.model.input_vocabulary
  return inputs.Tokenizer(student.usage, vocabulary).inputs(texts)[0]


@pytest.mark.slow
def test_an_exported_folder_answers_as_its_run(student, labels, tmp_path):
  folder = tmp_path / 'student'
  cli.main(['export', str(small_run.made()), str(folder)])
  assert dss_jax.load(folder).predict(TEXTS) == labels
  # Any other T5 with its vocabulary reads an input as it is.
  (folder / 'dss_jax.json').unlink()
  plain = dss_jax.load(folder, batch_size=8)
  assert (plain.method, plain.classes) == ('finetune', None)
  texts = [text for text in TEXTS if '</s>' not in text]
  room = student.usage.targets
  found, expected = (
    [row[:room] for row in asked.batches.predict(_tokens(asked, given))]
    for asked, given in (
      (plain, [f'predict: {text}' for text in texts]),
      (student, texts),
    )
  )
  # Its answers may go on.
  assert found == expected


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    ('[]', 'expected what `dss export` writes'),
    ('{"usage": {"colour": 1}}', 'expected what `dss export` writes'),
    (
      '{"usage": {"colour": 1}, "decoding": {"function": "f", "options": {}}}',
      'with some of batch_size',
    ),
  ],
)
def test_a_malformed_description_is_refused(tmp_path, content, message):
  (tmp_path / 'dss_jax.json').write_text(content)
  with pytest.raises(errors.DataError, match=message):
    exported._described(str(tmp_path))


def test_classes_come_from_the_evaluation_where_the_run_names_none(tmp_path):
  folder = tmp_path / 'inference_eval'
  folder.mkdir()
  lines = {'step': 1, 'accuracy': 50.0, 'support_of_a b': 3, 'support_of_c': 1}
  (folder / 'x_test-metrics.jsonl').write_text(json.dumps(lines) + '\n')
  (folder / 'x_validation-metrics.jsonl').write_text('{"step": 1, "supp')
  assert usage.scored_classes(tmp_path) == ('a b', 'c')
  assert usage.scored_classes(folder) is None


def test_the_import_is_light_and_help_shows_load_first():
  code = (
    'import sys, pydoc, dss_jax, dss_jax.student\n'
    'heavy = {"jax", "tensorflow", "seqio", "numpy"} & set(sys.modules)\n'
    'assert not heavy, heavy\n'
    'print(pydoc.plain(pydoc.render_doc(dss_jax)))\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  head, _, functions = done.stdout.partition('FUNCTIONS')
  assert "student = dss_jax.load('runs/tickets')" in head[:700]
  assert 'Returns a finished student' in functions


# ---- Files of rows -----------------------------------------------------------


@pytest.fixture
def rows(tmp_path):
  """A file of 40 rows, and 32 of them in a chunk."""
  path = tmp_path / 'new.csv'
  with path.open('w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(['id', 'ticket'])
    writer.writerows([i, TEXTS[i % len(TEXTS)]] for i in range(40))
  return path


@pytest.fixture
def small_chunks(monkeypatch):
  monkeypatch.setattr(answer_files, '_BATCHES', 2)


def _answer(student, rows, out, column=None, **options):
  return answer_files.answer(
    student,
    row_inputs.RowInputs(str(rows), student.usage, column),
    str(out),
    answer_files.Options(**options),
  )


def test_each_row_gets_its_answer(student, labels, rows, tmp_path):
  out = tmp_path / 'answers.jsonl'
  done = _answer(student, rows, out, explain=True, probabilities=True)
  found = [json.loads(line) for line in out.read_text().splitlines()]
  assert [row['id'] for row in found] == [str(i) for i in range(40)]
  assert [row['predicted_label'] for row in found] == labels * 4
  assert [row['predicted_rationale'] for row in found[:10]] == (
    student.explain(TEXTS)
  )
  names = [f'probability_of_{name}' for name in CLASSES]
  assert sum(found[7][name] for name in names) == pytest.approx(1.0)
  assert (done.rows, done.before, done.cut) == (40, 0, 0)
  assert [row['id'] for row in done.first] == ['0', '1', '2']
  assert sorted(p.name for p in tmp_path.iterdir()) == [
    'answers.jsonl', 'new.csv'
  ]  # fmt: skip


def test_a_killed_command_goes_on_where_it_was(
  student, rows, tmp_path, small_chunks, monkeypatch
):
  _answer(student, rows, tmp_path / 'straight.csv')
  out, asked = tmp_path / 'answers.csv', []
  original = answering.Student.ask

  def stopping(self, texts, explain=False):
    asked.append(len(texts))
    if len(asked) in (2, 3):
      raise KeyboardInterrupt
    return original(self, texts, explain)

  monkeypatch.setattr(answering.Student, 'ask', stopping)
  for _ in range(2):
    with pytest.raises(KeyboardInterrupt):
      _answer(student, rows, out)
    assert not out.exists()
  done = _answer(student, rows, out)
  assert asked == [16, 16, 16, 16, 8] and done.before == 16
  assert out.read_bytes() == (tmp_path / 'straight.csv').read_bytes()
  assert not (tmp_path / 'tmp-answers.csv').exists()


def _unfinished(student, rows, out, monkeypatch):
  """Leaves answers of the first chunk behind."""
  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(answer_files, '_answered', _stop)
    _answer(student, rows, out)


def _stop(*unused):
  raise KeyboardInterrupt


def test_others_answers_are_not_resumed(student, rows, tmp_path, monkeypatch):
  out = tmp_path / 'answers.csv'
  _unfinished(student, rows, out, monkeypatch)
  with pytest.raises(UserError, match='options/explain: False there, True now'):
    _answer(student, rows, out, explain=True)
  other = dss_jax.load(small_run.made(), 2)
  with pytest.raises(UserError, match=r'weights: .* there, .* now'):
    _answer(other, rows, out)
  rows.write_text(rows.read_text().replace('a car', 'a cart'))
  with pytest.raises(UserError, match=r'rows/files.*give another name with --'):
    _answer(student, rows, out)


def test_a_second_writer_is_refused(student, rows, tmp_path):
  with folder_lock.writing(str(tmp_path), 'writer-answers.csv.json'):
    with pytest.raises(UserError, match='that no other process writes to'):
      _answer(student, rows, tmp_path / 'answers.csv')
    _answer(student, rows, tmp_path / 'others.csv')


def test_a_full_disk_leaves_what_is_done(student, rows, tmp_path, small_chunks):
  out = tmp_path / 'answers.csv'
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  # More than the identity has, and less than a chunk.
  rows.write_text(rows.read_text().replace('a car', 'a car ' + 'x' * 2**14))
  resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, hard))
  try:
    with pytest.raises(UserError, match='cannot be written'):
      _answer(student, rows, out)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  assert not out.exists()
  assert _answer(student, rows, out).cut == 4


@pytest.mark.parametrize(
  ('text', 'column', 'message'),
  [
    ('id,ticket\n1,a\n2,\n', None, 'new.csv, line 3: expected a text, found'),
    ('id,text\n1,a\n', None, "expected the column 'ticket', found only id, te"),
    ('id,ticket\n1,a\n', 'tikket', "Did you mean 'ticket'.*--column"),
    ('ticket,predicted_label\na,b\n', None, "no column 'predicted_label'"),
    ('ticket\n', None, 'expected rows, found none'),
  ],
)
def test_a_faulty_row_is_found_before_the_first_is_asked(
  student, rows, tmp_path, text, column, message
):
  rows.write_text(text)
  with pytest.raises(errors.DataError, match=message):
    _answer(student, rows, tmp_path / 'answers.csv', column)
  assert not (tmp_path / 'tmp-answers.csv').exists()


def test_answers_are_never_overwritten(student, rows, tmp_path):
  (tmp_path / 'answers.csv').write_text('mine')
  with pytest.raises(errors.DataError, match='exists already'):
    _answer(student, rows, tmp_path / 'answers.csv')


# ---- The command -------------------------------------------------------------


def test_the_command_shows_label_classes_and_rationale(
  student, labels, capsys, monkeypatch
):
  # It has its programs already.
  monkeypatch.setattr(loading, 'load', lambda *unused, **options: student)
  cli.main(['ask', str(small_run.made()), *TEXTS[:8]])
  shown = capsys.readouterr().out.splitlines()
  assert shown[0] == TEXTS[0]
  assert shown[1].split() == ['label', *neutral.line(labels[0]).split()]
  assert {line.split()[1] for line in shown[2:5]} == set(CLASSES)
  (rationale,) = student.explain(TEXTS[:1])
  assert shown[5].split() == ['rationale', *neutral.line(rationale).split()]


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['run'], 'expected texts, or --file with --out'),
    (['run', 'a', '--file', 'b.csv', '--out', 'c.csv'], 'found 1 texts, --fil'),
    (['run', '--file', 'b.csv'], 'expected texts, or --file with --out'),
    (['run', '--file', 'b.csv', '--out', 'c.xls'], 'found .xls'),
    (['nowhere', 'a'], 'nowhere: expected the folder of a run'),
  ],
)
def test_a_mistake_is_one_message(arguments, message, capsys):
  with pytest.raises(SystemExit) as stopped:
    cli.main(['ask', *arguments])
  assert stopped.value.code == 2
  assert message in capsys.readouterr().err
