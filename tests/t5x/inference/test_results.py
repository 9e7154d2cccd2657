"""What an inference writes: each row as it is, chunks in order, none lost."""

import json

import numpy as np
import pytest
import seqio
import tensorflow as tf

from t5x import errors
from t5x.inference import results

_NAME = 'task-predict.jsonl-00000-of-00001'
_ROWS = {
  'inputs': [[5, 1], [6, 1]],
  'inputs_pretokenized': ['é 1', 'b'],
  'targets_pretokenized': [b'\xff', b'd'],
}


def _write(path, outputs, aux=None, rows=_ROWS, mode='predict', **options):
  results.write_inferences_to_file(
    str(path),
    (outputs, aux or {}),
    tf.data.Dataset.from_tensor_slices(rows),
    mode,
    vocabulary=seqio.ByteVocabulary(),
    **options,
  )
  text = path.read_text(encoding='utf-8')
  return [json.loads(line) for line in text.splitlines()]


def test_a_row_has_its_own_prediction_and_values(tmp_path):
  # A byte is 3 more as a token; 1 is the end, 0 padding.
  outputs = np.array([[100, 1, 0], [101, 102, 1]])
  aux = {'scores': [0.5, 1.5], 'more': {'x': np.array([[1, 2], [3, 4]])}}
  lines = _write(
    tmp_path / 'a', outputs, aux, mode='predict_with_aux', output_ids=True
  )
  assert '"é 1"' in (tmp_path / 'a').read_text(encoding='utf-8')
  assert lines == [
    {
      'inputs': {'inputs_pretokenized': 'é 1', 'targets_pretokenized': '/w=='},
      'prediction': 'a',
      'prediction_tokens': [100, 1],
      'aux': {'scores': 0.5, 'more': {'x': [1, 2]}},
    },
    {
      'inputs': {'inputs_pretokenized': 'b', 'targets_pretokenized': 'd'},
      'prediction': 'bc',
      'prediction_tokens': [101, 102, 1],
      'aux': {'scores': 1.5, 'more': {'x': [3, 4]}},
    },
  ]


def test_several_decodes_of_a_row_are_a_list(tmp_path):
  outputs = np.array([[[100, 1, 0], [0, 0, 0]], [[101, 1, 0], [102, 103, 1]]])
  lines = _write(tmp_path / 'a', outputs, output_ids=True)
  assert [line['prediction'] for line in lines] == [['a', ''], ['b', 'cd']]
  assert [line['prediction_tokens'] for line in lines] == [
    [[100, 1], []],
    [[101, 1], [102, 103, 1]],
  ]
  assert 'aux' not in lines[0]
  lines = _write(tmp_path / 'a', np.array([[100], [0]]), output_ids=True)
  assert [line['prediction_tokens'] for line in lines] == [[100], []]
  assert 'prediction_tokens' not in _write(tmp_path / 'a', outputs)[0]


class _Encoder(json.JSONEncoder):
  def default(self, value):
    return f'own {value}'


def test_what_json_has_no_form_for_is_written_as_the_caller_says(tmp_path):
  lines = _write(
    tmp_path / 'a',
    [0.5, 1.5],
    {'x': [1j, 2j]},
    mode='score',
    json_encoder_cls=_Encoder,
  )
  assert [line['aux']['x'] for line in lines] == ['own 1j', 'own 2j']


@pytest.mark.parametrize('mode', ['predict', 'predict_with_aux'])
def test_tokens_without_a_vocabulary_are_refused(tmp_path, mode):
  rows = tf.data.Dataset.from_tensor_slices(_ROWS)
  path, outputs = str(tmp_path / 'a'), ([0.5, 1.5], {})
  with pytest.raises(errors.UserError, match='needs a vocabulary'):
    results.write_inferences_to_file(path, outputs, rows, mode)
  results.write_inferences_to_file(path, outputs, rows, 'score')
  assert len((tmp_path / 'a').read_text().splitlines()) == 2


@pytest.mark.parametrize(
  ('options', 'fields'),
  [
    ({}, {'inputs_pretokenized', 'targets_pretokenized'}),
    ({'include_all_inputs': True}, set(_ROWS)),
    (
      {'input_fields_to_include': ['inputs']},
      {'inputs', 'inputs_pretokenized'},
    ),
    ({'input_fields_to_include': []}, set()),
  ],
)
def test_inputs_are_the_features_that_are_asked_for(tmp_path, options, fields):
  lines = _write(tmp_path / 'a', [0.5, 1.5], mode='score', **options)
  assert [set(line['inputs']) for line in lines] == [fields, fields]
  assert [line['score'] for line in lines] == [0.5, 1.5]
  assert 'prediction' not in lines[0]
  if 'inputs' in fields:
    assert [line['inputs']['inputs'] for line in lines] == [[5, 1], [6, 1]]


def test_a_task_without_texts_has_all_its_features(tmp_path):
  lines = _write(tmp_path / 'a', [0.5], rows={'inputs': [[5]]}, mode='score')
  assert lines == [{'inputs': {'inputs': [5]}, 'score': 0.5}]


@pytest.mark.parametrize('count', [1, 3])
def test_an_output_too_few_or_too_many_is_an_error(tmp_path, count):
  with pytest.raises(errors.UserError, match=f'2 examples, found {count}'):
    _write(tmp_path / 'a', [0.5] * count, mode='score')


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (
      {'include_all_inputs': True, 'input_fields_to_include': ['inputs']},
      'exclude each other',
    ),
    ({'input_fields_to_include': ['input']}, r"Did you mean 'inputs'\?"),
    ({'mode': 'predictions'}, "unknown mode 'predictions'"),
  ],
)
def test_options_that_cannot_be_are_refused(tmp_path, options, message):
  with pytest.raises(errors.UserError, match=message):
    _write(tmp_path / 'a', [0.5, 1.5], **{'mode': 'score', **options})
  assert not (tmp_path / 'a').exists()


def test_no_tokens_are_no_text():
  assert results.decode(np.zeros(0, np.int32), seqio.ByteVocabulary()) == ''
  assert results.decode([100], seqio.ByteVocabulary()) == 'a'


def test_tensors_and_bytes_become_what_json_has():
  assert results.plain(tf.ragged.constant([[1], [2, 3]])) == [[1], [2, 3]]
  mixed = (1, b'a', {'x': np.float32(0.5)}, tf.constant(2), np.arange(2))
  assert results.plain(mixed) == [1, 'a', {'x': 0.5}, 2, [0, 1]]


def _chunk(folder, index, text):
  with open(results.chunk_path(str(folder), _NAME, index), 'w') as file:
    file.write(text)


def test_chunks_are_joined_in_the_order_of_their_numbers(tmp_path):
  chunks, out = tmp_path / 'tmp', tmp_path / 'out'
  chunks.mkdir()
  out.mkdir()
  for index in (10, 2, 0, 1, *range(3, 10)):
    _chunk(chunks, index, f'{index}\n')
  _chunk(chunks, 11, 'x' * (2**20 + 5) + '\n')
  results.merge_chunks_to_file(str(out), _NAME, str(chunks), step=None)
  lines = (out / _NAME).read_text().splitlines()
  assert lines[:11] == [str(index) for index in range(11)]
  assert lines[11:] == ['x' * (2**20 + 5)]


def test_chunks_count_up_to_the_first_that_is_missing(tmp_path):
  assert results.finished_chunks(str(tmp_path), _NAME) == 0
  _chunk(tmp_path, 1, '')
  assert results.finished_chunks(str(tmp_path), _NAME) == 0
  _chunk(tmp_path, 0, '')
  assert results.finished_chunks(str(tmp_path), _NAME) == 2
  _chunk(tmp_path, 3, '')
  # Neither a chunk of another file nor one that is half written counts.
  (tmp_path / f'other{_NAME}-chunk00002').write_text('')
  (tmp_path / f'{_NAME}-chunk00002.tmp').write_text('')
  assert results.finished_chunks(str(tmp_path), _NAME) == 2


def test_chunks_of_another_configuration_are_neither_used_nor_lost(tmp_path):
  folder = tmp_path / 'tmp'
  identity = {'step': 3, 'sizes': (1, 2)}
  results.open_tmp_dir(str(folder), identity, resume=True)
  written = (folder / 'identity.json').read_text()
  assert written == json.dumps({'step': 3, 'sizes': [1, 2]}, indent=2)
  _chunk(folder, 0, 'a')
  results.open_tmp_dir(str(folder), identity, resume=True)
  assert results.finished_chunks(str(folder), _NAME) == 1
  with pytest.raises(errors.UserError, match='step: 3 there, 4 now') as raised:
    results.open_tmp_dir(str(folder), identity | {'step': 4}, resume=True)
  assert 'sizes' not in str(raised.value)
  assert results.finished_chunks(str(folder), _NAME) == 1
  results.open_tmp_dir(str(folder), identity | {'step': 4}, resume=False)
  assert results.finished_chunks(str(folder), _NAME) == 0
  results.open_tmp_dir(str(folder), identity | {'step': 4}, resume=True)


@pytest.mark.parametrize(
  ('count', 'more'), [(8, ''), (9, '; and 1 more'), (12, '; and 4 more')]
)
def test_of_many_differences_eight_are_listed(tmp_path, count, more):
  there, now = (
    {'n': {f'x{i}': s * i - s for i in range(count)}} for s in (3, 1)
  )
  folder = str(tmp_path / 'tmp')
  results.open_tmp_dir(folder, there | {'same': 1, 'no': {}}, resume=True)
  now |= {'same': 1, 'no': {}}
  del now['n']['x1']  # It is 0 in both.
  there['n'].pop('x1')
  with pytest.raises(errors.UserError, match='another configuration') as raised:
    results.open_tmp_dir(folder, now, resume=True)
  listed = [
    f'n/{name}: {there["n"][name]} there, {value} now'
    for name, value in now['n'].items()
  ]
  listed = [*listed, 'n/x1: 0 there, None now']
  shown = '; '.join(listed[:8])
  assert f'({shown}{more})' in str(raised.value)


def test_an_option_without_a_value_is_one(tmp_path):
  folder = str(tmp_path / 'tmp')
  results.open_tmp_dir(folder, {'a': {}, 'b': 1}, resume=True)
  with pytest.raises(errors.UserError, match=r'\(a: \{\} there, None now\)'):
    results.open_tmp_dir(folder, {'b': 1}, resume=True)


def test_the_first_answers_end_an_inference(tmp_path):
  path = tmp_path / 'task-predict.jsonl-00000-of-00001'
  rows = [
    {
      'inputs': {'inputs_pretokenized': f'what is\n{n}'},
      'prediction': 'x' * 200,
    }
    for n in range(5)
  ]
  path.write_text('\n'.join(map(json.dumps, rows)))
  shown = results.first_answers(str(path), 2).split('\n')
  cut = 'x' * 100 + '…'
  assert shown == [
    *('what is 0', f'  -> {cut}', 'what is 1', f'  -> {cut}'),
    f'answers: {path}',
  ]
  assert len(results.first_answers(str(path)).split('\n')) == 2 * 3 + 1
  row = {'inputs': {}, 'prediction': 'y' * 100}
  path.write_text(json.dumps(row))
  shown = results.first_answers(str(path)).split('\n')
  assert shown[0] == '  -> ' + 'y' * 100
  path.write_text(json.dumps({'inputs': {'id': 3}, 'score': -1.5}))
  assert results.first_answers(str(path)).startswith('  -> -1.5\n')
  # Another form, of the user's own.
  for text in ('one\ntwo', '{}', '[1]', '{"score": 1, "inputs": "x"}'):
    path.write_text(text)
    assert results.first_answers(str(path)) == f'answers: {path}'
