"""Inference writes every row once, in order, whatever happens on the way."""

import functools
import json
import re
import shutil
from typing import ClassVar

import jax
import pytest
import seqio

import gin
from t5x import checkpoints, errors, infer
from t5x import data as data_lib
from t5x.files import folder_lock
from t5x.inference import results
from tests.t5x import small_models, toy_task

_MERGED = 'toy_backwards-{}.jsonl-00000-of-00001'


@pytest.fixture(scope='module')
def run_folder(tmp_path_factory):
  return small_models.save(
    small_models.EchoModel(), tmp_path_factory.mktemp('run'), [3]
  )


def _infer(run_folder, output_dir, mode='predict', data=None, **options):
  infer.infer(
    mode=mode,
    model=small_models.EchoModel(),
    dataset_cfg=data_lib.DatasetConfig(
      **{
        'mixture_or_task_name': toy_task.NAME,
        'task_feature_lengths': toy_task.LENGTHS,
        'split': 'test',
        'batch_size': 8,
        'shuffle': False,
        'seed': None,
        **(data or {}),
      }
    ),
    restore_checkpoint_cfg=checkpoints.RestoreCheckpointConfig(
      path=str(run_folder), mode='latest'
    ),
    partitioner=small_models.partitioner(),
    output_dir=str(output_dir),
    **{'checkpoint_period': 1, **options},
  )


def _lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_example_is_one_line_in_order(run_folder, tmp_path):
  _infer(run_folder, tmp_path, write_fn=_write_with_ids)
  assert _lines(tmp_path / _MERGED.format('predict')) == [
    {
      'inputs': {'inputs_pretokenized': i, 'targets_pretokenized': t},
      'prediction': t,
      'prediction_tokens': [*toy_task.VOCABULARY.encode(t), 1],
    }
    for i, t in toy_task.texts('test')
  ]
  assert not list(tmp_path.glob('tmp-*'))


_write_with_ids = functools.partial(
  infer.write_inferences_to_file, output_ids=True
)


def test_scores_and_aux_values_are_written(run_folder, tmp_path):
  _infer(run_folder, tmp_path, 'score')
  _infer(run_folder, tmp_path, 'predict_with_aux')
  scores = _lines(tmp_path / _MERGED.format('score'))
  aux = _lines(tmp_path / _MERGED.format('predict_with_aux'))
  assert len(scores) == len(aux) == toy_task.ROWS['test']
  assert all(-1 < line['score'] < 0 for line in scores)
  assert all(line['aux'] == {'scores': 9.0} for line in aux)
  assert aux[4]['prediction'] == toy_task.texts('test')[4][1]


def test_a_stopped_inference_goes_on_after_its_last_whole_chunk(
  run_folder, tmp_path
):
  straight, stopped = tmp_path / 'straight', tmp_path / 'stopped'
  _infer(run_folder, straight)
  written = []

  def write(path, inferences, *rest):
    written.append(len(inferences[0]))
    infer.write_inferences_to_file(path, inferences, *rest)
    if len(written) == 2:  # The file is there, but not under its name.
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    _infer(run_folder, stopped, write_fn=write)
  name = _MERGED.format('predict')
  assert not (stopped / name).exists()
  with pytest.raises(errors.UserError, match='rows of a chunk: 8 there, 16'):
    _infer(run_folder, stopped, checkpoint_period=2)
  _infer(run_folder, stopped, write_fn=write)
  assert written == [8, 8, 8, 6]
  assert (stopped / name).read_bytes() == (straight / name).read_bytes()


def test_without_a_position_an_inference_starts_again(run_folder, tmp_path):
  written = []

  def write(path, inferences, *rest):
    written.append(len(inferences[0]))
    infer.write_inferences_to_file(path, inferences, *rest)

  for _ in range(2):
    _infer(
      run_folder,
      tmp_path,
      write_fn=write,
      checkpoint_ds_iter=False,
      merge_chunked_results=False,
    )
  assert written == [8, 8, 6] * 2
  assert len(list(tmp_path.glob('tmp-*/*-chunk0000?'))) == 3


def test_shards_part_the_examples(run_folder, tmp_path):
  rows = []
  for shard in range(2):
    _infer(run_folder, tmp_path, shard_id=shard, num_shards=2)
    name = f'toy_backwards-predict.jsonl-{shard:05}-of-00002'
    rows += [line['prediction'] for line in _lines(tmp_path / name)]
  assert sorted(rows) == sorted(t for _, t in toy_task.texts('test'))


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'mode': 'predicts'}, "Did you mean 'predict'"),
    ({'data': {'split': 'tset'}}, "Did you mean 'test'"),
    ({'data': {'pack': True}}, 'row of its own'),
    ({'data': {'task_feature_lengths': None}}, 'TASK_FEATURE_LENGTHS'),
    ({'checkpoint_period': 0}, 'at least 1 batch, found 0'),
    ({'shard_id': 1}, 'expected 0 to 0'),
    ({'output_vocab_feature_name': 'target'}, "Did you mean 'targets'"),
  ],
)
def test_what_can_not_work_is_said_first(tmp_path, options, message):
  with pytest.raises(errors.UserError, match=re.escape(message)):
    _infer(tmp_path, tmp_path / 'out', **options)


def test_a_folder_without_checkpoints_is_refused(tmp_path):
  with pytest.raises(errors.UserError, match='no checkpoint in'):
    _infer(tmp_path / 'nothing', tmp_path / 'out')


def test_chunks_after_a_gap_do_not_count(tmp_path):
  for index in (0, 1, 3):
    path = results.chunk_path(str(tmp_path), 'a.jsonl', index)
    with open(path, 'w') as f:
      f.write(f'{index}\n')
  assert results.finished_chunks(str(tmp_path), 'a.jsonl') == 2


def test_a_row_of_nested_aux_values():
  aux = {'scores': [1, 2], 'deep': {'tokens': [[3, 4], [5, 6]]}}
  assert results.row_of(aux, 1) == {'scores': 2, 'deep': {'tokens': [5, 6]}}


class _Killed(Exception):
  """Stands for a kill in a chunk that is not complete."""


def _unfinished(run_folder, output_dir):
  """Infers on two chunks, and stops within the third."""
  written = []

  def write(*args, **options):
    if len(written) == 2:
      raise _Killed
    written.append(args[0])
    infer.write_inferences_to_file(*args, **options)

  with pytest.raises(_Killed):
    _infer(run_folder, output_dir, write_fn=write)
  assert len(list(output_dir.glob('tmp-*/*-chunk?????'))) == 2


def test_an_inference_goes_on_with_its_own_weights_alone(run_folder, tmp_path):
  """Other ones under the same name would make a file of two models."""
  copy, out = tmp_path / 'run', tmp_path / 'out'
  shutil.copytree(run_folder, copy)
  _unfinished(copy, out)
  shutil.rmtree(copy)
  small_models.save(_Other(), copy, [3])
  with pytest.raises(
    errors.UserError, match=r'weights: \'\w+\' there'
  ) as raised:
    _infer(copy, out)
  assert 'content' not in str(raised.value)
  # The same bytes, copied again at another time, are the same weights.
  shutil.rmtree(copy)
  shutil.copytree(run_folder, copy)
  _infer(copy, out)
  assert len(_lines(out / _MERGED.format('predict'))) == toy_task.ROWS['test']


class _Other(small_models.EchoModel):
  """Starts from another number."""

  def get_initial_variables(self, rng, *args, **options):
    return super().get_initial_variables(
      jax.random.fold_in(rng, 1), *args, **options
    )


def test_an_inference_goes_on_with_its_own_rows_alone(
  run_folder, tmp_path, monkeypatch
):
  _unfinished(run_folder, tmp_path)
  texts = toy_task.texts
  monkeypatch.setattr(
    toy_task, 'texts', lambda split: [(i[::-1], t) for i, t in texts(split)]
  )
  with pytest.raises(errors.UserError, match='content/toy_backwards: '):
    _infer(run_folder, tmp_path)


def test_an_inference_goes_on_with_its_own_configuration_alone(
  run_folder, tmp_path
):
  try:
    gin.clear_config()
    gin.parse_config('TEMPERATURE = 0.0')
    _unfinished(run_folder, tmp_path)
    gin.parse_config('TEMPERATURE = 1.0')
    with pytest.raises(
      errors.UserError,
      match=r"configuration/TEMPERATURE: '0\.0' there, '1\.0' now",
    ):
      _infer(run_folder, tmp_path)
    gin.parse_config('TEMPERATURE = 0.0')
    _infer(run_folder, tmp_path)
  finally:
    gin.clear_config()


def test_a_folder_that_another_process_infers_into_is_refused(
  run_folder, tmp_path
):
  with (
    folder_lock.writing(str(tmp_path), 'writer-jsonl-00000-of-00001.json'),
    pytest.raises(errors.UserError, match='no other process writes to'),
  ):
    _infer(run_folder, tmp_path)
  with folder_lock.writing(str(tmp_path), 'writer-jsonl-00001-of-00002.json'):
    _infer(run_folder, tmp_path)


class _Counting(seqio.Task):
  """A task that can begin anywhere, and remembers where it has."""

  begun: ClassVar[list[int]] = []

  def get_dataset_after(self, before, **options):
    self.begun.append(before)
    return self.get_dataset(**options).skip(before)


def test_rows_that_are_done_are_not_made_again(
  run_folder, tmp_path, monkeypatch
):
  task = seqio.TaskRegistry.get(toy_task.NAME)
  monkeypatch.setattr(task, '__class__', _Counting)
  _infer(run_folder, tmp_path / 'once')
  whole = (tmp_path / 'once' / _MERGED.format('predict')).read_text()

  def write(path, *arguments):
    if path.endswith('-chunk00002') or '-chunk00002.' in path:
      raise KeyboardInterrupt
    infer.write_inferences_to_file(path, *arguments)

  with pytest.raises(KeyboardInterrupt):
    _infer(run_folder, tmp_path / 'cut', write_fn=write)
  _Counting.begun.clear()
  _infer(run_folder, tmp_path / 'cut')
  assert _Counting.begun == [16]
  assert (tmp_path / 'cut' / _MERGED.format('predict')).read_text() == whole


def test_an_inference_that_ended_in_its_last_step_reads_nothing_again(
  run_folder, tmp_path, monkeypatch
):
  def fail(*unused):
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    _infer(run_folder, tmp_path, merge_fn=fail)

  rows = infer._rows

  def counted(*arguments):
    assert len(arguments) == 5, 'read again'
    return rows(*arguments)

  monkeypatch.setattr(infer, '_rows', counted)
  _infer(run_folder, tmp_path, write_fn=fail)
  lines = _lines(tmp_path / _MERGED.format('predict'))
  assert len(lines) == toy_task.ROWS['test']
