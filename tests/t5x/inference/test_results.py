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
  path.write_text(json.dumps({'inputs': {'id': 3}, 'score': -1.5}))
  assert results.first_answers(str(path)).startswith('  -> -1.5\n')
  # Another form, of the user's own.
  path.write_text('one\ntwo')
  assert results.first_answers(str(path)) == f'answers: {path}'
