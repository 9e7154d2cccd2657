"""Inference that is killed with -9 goes on, and loses and repeats no row."""

import json
import pathlib
import random
import time

import pytest

from tests.t5x import forks, held_files, small_models, toy_task

_STOCK = 't5x/configs/runs/infer.gin'
_ROWS_OF_CHUNK = 2
_CHUNKS = toy_task.ROWS['test'] // _ROWS_OF_CHUNK
_NAME = f'{toy_task.NAME}-predict.jsonl-00000-of-00001'
# A model without a network, and writing that holds still where it is to be
# killed.
_GIN = """
from __gin__ import dynamic_registration

import __main__ as infer_script
from tests.t5x import entry_points
from tests.t5x import held_files
from tests.t5x import small_models
from t5x import partitioning

MODEL = @small_models.EchoModel()
MIXTURE_OR_TASK_NAME = 'toy_backwards'
TASK_FEATURE_LENGTHS = {'inputs': 10, 'targets': 6}
USE_CACHED_TASKS = False
BATCH_SIZE = 2
CHECKPOINT_PERIOD = 1
infer_script.infer.write_fn = @held_files.write
partitioning.PjitPartitioner.devices = @entry_points.one_device()
"""


@pytest.fixture(scope='module')
def workplace(tmp_path_factory):
  folder = tmp_path_factory.mktemp('killed')
  (folder / 'echo.gin').write_text(_GIN)
  small_models.save(small_models.EchoModel(), folder / 'run', [3])
  return folder


@pytest.fixture(scope='module')
def processes():
  with forks.Forks() as server:
    yield server


def _flags(workplace, output_dir):
  return [
    f'--gin_file={_STOCK}',
    f'--gin_file={workplace / "echo.gin"}',
    f'--gin.CHECKPOINT_PATH={str(workplace / "run" / "checkpoint_3")!r}',
    f'--gin.INFER_OUTPUT_DIR={str(output_dir)!r}',
  ]


def _chunks(output_dir: pathlib.Path) -> list[pathlib.Path]:
  return sorted(output_dir.glob(f'tmp-{_NAME}/*-chunk?????'))


def _kill(processes, workplace, output_dir, chunk, stage) -> None:
  """Starts the inference, and kills it in the given chunk."""
  held = workplace / f'held_{chunk}_{stage}'
  process = processes.start(
    'infer',
    *_flags(workplace, output_dir),
    HOLD=f'{chunk}:{stage}',
    HELD=str(held),
  )
  deadline = time.monotonic() + 500
  while not held.exists():
    assert time.monotonic() < deadline, process.text
    time.sleep(0.01)
  process.kill()
  code, text = processes.wait(process)
  assert code == -9, text


def test_a_killed_inference_goes_on_without_losing_or_repeating_a_row(
  processes, workplace, tmp_path
):
  # Killed three times, each time later: between two chunks, with half a row
  # written, and with a whole chunk written that hasn't got its name yet.
  moments = sorted(random.sample(range(1, _CHUNKS), len(held_files.STAGES)))
  stages = random.sample(held_files.STAGES, len(held_files.STAGES))
  for chunk, stage in zip(moments, stages, strict=True):
    _kill(processes, workplace, tmp_path, chunk, stage)
    assert len(_chunks(tmp_path)) == chunk, (moments, stages)
  assert not (tmp_path / _NAME).exists()
  before = b''.join(path.read_bytes() for path in _chunks(tmp_path))

  code, text = processes.run('infer', *_flags(workplace, tmp_path))
  assert code == 0, text
  # Only rows that were not there are inferred on.
  done = _ROWS_OF_CHUNK * moments[-1]
  assert f'  {done + _ROWS_OF_CHUNK}/22 rows' in text
  assert f'  {done}/22 rows' not in text
  merged = (tmp_path / _NAME).read_bytes()
  assert merged.startswith(before)
  assert [json.loads(line) for line in merged.splitlines()] == [
    {
      'inputs': {'inputs_pretokenized': i, 'targets_pretokenized': t},
      'prediction': t,
    }
    for i, t in toy_task.texts('test')
  ]
  assert not list(tmp_path.glob('tmp-*'))
