"""Tests of `import tasks`, in a process of its own."""

import subprocess
import sys

import pytest

_PROGRAM = """
import os
import sys
import time
import seqio
import tensorflow_datasets

opened = []

def watch(event, args):
  if event == 'open' and isinstance(args[0], str):
    opened.append(args[0])
  elif event.startswith('socket.') and event != 'socket.gethostname':
    print('network:', event)

sys.addaudithook(watch)
start = time.process_time()
import tasks
print('seconds:', time.process_time() - start)
root = os.path.dirname(os.path.dirname(tasks.__file__))
for path in opened:
  code = path.endswith('.py') or '__pycache__' in path
  if path.startswith(root) and not code or 'tensorflow_datasets/dss' in path:
    print('file:', path)
from dss_jax import mixtures
for experiment in tasks.EXPERIMENTS:
  for name in (
    mixtures.train_name(experiment), mixtures.eval_name(experiment)
  ):
    print('registered:', seqio.get_mixture_or_task(name).name)
from tasks import __main__
__main__.main()
"""


@pytest.fixture(scope='module')
def lines():
  """What a program prints that imports the tasks."""
  result = subprocess.run(
    [sys.executable, '-c', _PROGRAM],
    capture_output=True,
    text=True,
    check=True,
  )
  return result.stdout.splitlines()


def after(lines, word):
  return [line.removeprefix(word) for line in lines if line.startswith(word)]


def test_importing_takes_under_two_seconds(lines):
  (seconds,) = after(lines, 'seconds: ')
  assert float(seconds) < 2


def test_importing_reads_no_data_and_uses_no_network(lines):
  assert after(lines, 'file: ') == []
  assert after(lines, 'network: ') == []


def test_default_names_are_registered(lines):
  names = after(lines, 'registered: ')
  assert 'dss_cqa_sample_gold_palm' in names
  assert 'dss_cqa_release_teacher_gpt_neox_paired' in names
  assert 'finetune_cqa_release_gold' in names
  assert 'eval_single_task_cqa_sample_palm' in names
  for data_set in ('svamp', 'asdiv', 'esnli', 'anli1'):
    assert f'dss_{data_set}_sample_gold_palm' in names
    # The published archive has no ASDiv.
    released = f'finetune_{data_set}_release_teacher_palm' in names
    assert released == (data_set != 'asdiv')


def test_the_list_has_a_line_for_every_mixture_and_task(lines):
  shown = after(lines, 'mixture  ')
  assert (
    'dss_cqa_sample_gold_palm: train on labels and rationales; gold labels,'
    ' rationales of palm; cqa, packaged sample; mixes cqa_sample_label_gold +'
    ' cqa_sample_rationale_palm'
  ) in shown
  assert len(shown) == len({name.split(':')[0] for name in shown})
  assert len(shown) == len(set(after(lines, 'registered: ')))
  tasks = after(lines, 'task     ')
  assert (
    'cqa_sample_label_gold: splits train, validation, test; gives inputs,'
    ' targets, task_id'
  ) in tasks
  assert 'cqa_sample_label_test: splits eval; gives inputs, targets' in tasks
