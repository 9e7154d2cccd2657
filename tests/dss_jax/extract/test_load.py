"""Many rows, many requests, kills, a real server: minutes of work.

Run with `pytest -m slow -s`, which prints the figures.
"""

import contextlib
import importlib.util
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

from dss_jax.data import records
from tests.dss_jax.extract import fault_server

pytestmark = pytest.mark.slow

_ROOT = pathlib.Path(__file__).parents[3]
_PROMPT = {
  'question': 'Q: {input}',
  'answer': 'A: {rationale} So the answer is {label}.',
  'exemplars': [{'input': 'Ice?', 'rationale': 'It is.', 'label': 'no'}],
}


@contextlib.contextmanager
def _server(**plan):
  """Yields the address of a server in a process of its own."""
  command = [sys.executable, fault_server.__file__, json.dumps(plan)]
  with subprocess.Popen(
    command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
  ) as process:
    try:
      yield f'http://127.0.0.1:{int(process.stdout.readline())}'
    finally:
      process.kill()


def _stats(address):
  with urllib.request.urlopen(f'{address}/stats') as answer:
    return json.load(answer)


def _rows(folder, count):
  """Writes rows of our own, and a prompt."""
  with (folder / 'own.jsonl').open('w') as file:
    for number in range(count):
      file.write(json.dumps({'input': f'Is {number} a number?'}) + '\n')
  (folder / 'prompt.json').write_text(json.dumps(_PROMPT))


def _start(folder, address, *arguments, teacher='mine', model='tiny'):
  command = [sys.executable, '-m', 'dss_jax.cli', 'extract', *arguments]
  command += ['--teacher', teacher, '--url', f'{address}/v1', '--model', model]
  environment = {**os.environ, 'PYTHONPATH': str(_ROOT)}
  return subprocess.Popen(
    command,
    cwd=folder,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def _finish(process):
  shown = process.communicate()[0]
  assert process.returncode == 0, shown
  return shown


def _accepted(folder, teacher='mine'):
  path = folder / 'runs/teachers' / teacher / 'custom/journal.jsonl'
  found = []
  for line in path.read_bytes().split(b'\n'):
    with contextlib.suppress(ValueError):
      entry = json.loads(line)
      found.append(entry['index'])
  return found


_OWN = ('own.jsonl', '--prompt', 'prompt.json')


def test_three_kills_lose_nothing_and_pay_nothing_twice(tmp_path):
  """2,000 inputs, a tenth of the requests fail, three `kill -9`."""
  _rows(tmp_path, 2000)
  plan = {'fault_rate': 0.1, 'latency': 0.8, 'spread': 0.2}
  concurrency = 16
  arguments = (*_OWN, '--concurrency', str(concurrency))
  with _server(**plan) as address:
    begun = time.monotonic()
    _finish(_start(tmp_path, address, *arguments, teacher='whole'))
    whole = time.monotonic() - begun
  moments = random.Random(time.time_ns())
  with _server(**plan) as address:
    begun = time.monotonic()
    for _ in range(3):
      process = _start(tmp_path, address, *arguments)
      time.sleep(moments.uniform(0.1, 0.3) * whole)
      process.send_signal(signal.SIGKILL)
      process.communicate()
    _finish(_start(tmp_path, address, *arguments))
    killed, stats = time.monotonic() - begun, _stats(address)
  print(f'without kills {whole:.1f} s, with three {killed:.1f} s,', stats)
  accepted = _accepted(tmp_path)
  assert sorted(accepted) == list(range(2000))
  assert stats['inputs'] == 2000
  assert stats['answered_again'] <= 3 * concurrency
  assert killed <= 1.3 * whole


def test_a_thousand_requests_at_once(tmp_path):
  """At 200 ms each: under three seconds from the first to the last."""
  _rows(tmp_path, 1001)
  with _server(latency=0.2) as address:
    begun = time.monotonic()
    _finish(_start(tmp_path, address, *_OWN, '--concurrency', '1000'))
    wall, stats = time.monotonic() - begun, _stats(address)
  path = tmp_path / 'runs/teachers/mine/custom/journal.jsonl'
  # The first row is asked alone; the others follow at once.
  times = [json.loads(line)['time'] for line in path.read_text().splitlines()]
  asking = max(times) - min(times)
  print(f'asking {asking:.2f} s, whole command {wall:.2f} s,', stats)
  assert stats['answers'] == 1001
  assert stats['most_flying'] > 500
  assert asking < 3.0


def _resident(process):
  """Returns the process' resident memory in MiB, None when it is gone."""
  with contextlib.suppress(OSError, StopIteration):
    lines = pathlib.Path(f'/proc/{process.pid}/status').read_text().split('\n')
    line = next(line for line in lines if line.startswith('VmRSS'))
    return int(line.split()[1]) / 1024
  return None


def test_memory_is_flat_over_a_hundred_thousand_rows(tmp_path):
  _rows(tmp_path, 100_000)
  path = tmp_path / 'runs/teachers/mine/custom/journal.jsonl'
  found = {}
  with _server() as address, (tmp_path / 'shown').open('w') as shown:
    process = _start(tmp_path, address, *_OWN, '--concurrency', '64')
    begun = time.monotonic()
    while process.poll() is None:
      time.sleep(1.0)
      size = path.stat().st_size if path.exists() else 0
      done = size // 315  # About the bytes of an entry.
      resident = _resident(process)
      if resident is not None:
        found[done] = resident
        shown.write(f'{done} {resident}\n')
    _finish(process)
    seconds = time.monotonic() - begun
  early = max(mib for rows, mib in found.items() if rows < 20_000)
  asking = max(m for rows, m in found.items() if 20_000 <= rows < 99_000)
  most = max(found.values())
  print(
    f'{seconds:.0f} s; MiB: {early:.1f} up to 20,000 rows, {asking:.1f} up to'
    f' 99,000, {most:.1f} with the report and its picture'
  )
  assert sorted(_accepted(tmp_path)) == list(range(100_000))
  assert asking < early + 8


# A real server.

_TINY = """
import sys

import tokenizers
import torch
import transformers

torch.manual_seed(0)
bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
bpe.decoder = tokenizers.decoders.ByteLevel()
alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
bpe.train_from_iterator(
  ['A fish swims. So the answer is (b) pond.'] * 5,
  tokenizers.trainers.BpeTrainer(
    vocab_size=300, special_tokens=['<s>', '</s>'], initial_alphabet=alphabet
  ),
)
words = transformers.PreTrainedTokenizerFast(
  tokenizer_object=bpe, bos_token='<s>', eos_token='</s>', pad_token='</s>'
)
words.chat_template = (
  "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\\n{% endfor %}"
)
words.save_pretrained(sys.argv[1])
config = transformers.LlamaConfig(
  vocab_size=len(words),
  hidden_size=16,
  intermediate_size=32,
  num_hidden_layers=1,
  num_attention_heads=2,
  num_key_value_heads=2,
  bos_token_id=0,
  eos_token_id=1,
  pad_token_id=1,
)
transformers.LlamaForCausalLM(config).save_pretrained(sys.argv[1])
"""


@contextlib.contextmanager
def _transformers_serve(folder):
  """Yields address and model of `transformers serve` with random weights."""
  python = os.environ.get('DSS_TEST_SERVE_PYTHON', sys.executable)
  if python == sys.executable and not importlib.util.find_spec('transformers'):
    pytest.skip("needs the extra 'extract-test', or DSS_TEST_SERVE_PYTHON")
  environment = {**os.environ, 'HF_HUB_OFFLINE': '1'}
  environment.pop('PYTHONPATH', None)
  model = str(folder / 'model')
  subprocess.run([python, '-c', _TINY, model], env=environment, check=True)
  port = str(random.randint(20000, 30000))
  program = str(pathlib.Path(python).parent / 'transformers')
  with (folder / 'serve.log').open('w') as log:
    process = subprocess.Popen(
      [program, 'serve', '--host', '127.0.0.1', '--port', port]
      + ['--device', 'cpu', model],
      env=environment,
      stdout=log,
      stderr=log,
    )
    address = f'http://127.0.0.1:{port}'
    try:
      while True:
        assert process.poll() is None, (folder / 'serve.log').read_text()
        with contextlib.suppress(OSError):
          urllib.request.urlopen(f'{address}/health').close()
          break
        time.sleep(0.5)
      yield address, model
    finally:
      process.terminate()
      process.wait()


def test_a_real_server_answers(tmp_path):
  """`transformers serve`: both endpoints, votes, resuming, a wrong model.

  It takes a `response_format`, and passes over it: nothing is guessed then.
  """
  arguments = ('sample', '--data-set', 'cqa', '--max-tokens', '16')
  with _transformers_serve(tmp_path) as (address, model):
    more = {'chat': (), 'completion': ('--samples', '2', '--temperature', '1')}
    for endpoint, options in more.items():
      for limit in ('5', '10'):
        process = _start(
          tmp_path, address, *arguments, '--endpoint', endpoint, *options,
          '--limit', limit, teacher=endpoint, model=model,
        )  # fmt: skip
        shown = _finish(process)
      print(shown)
    process = _start(
      tmp_path, address, *arguments, '--structured', '--limit', '5',
      teacher='json', model=model,
    )  # fmt: skip
    print(_finish(process))
    process = _start(tmp_path, address, *arguments, teacher='no', model='x')
    shown = process.communicate()[0]
    print(shown)
    assert process.returncode == 2 and "requested 'x'" in shown
  for endpoint, samples in (('chat', 1), ('completion', 2)):
    folder = tmp_path / 'runs/teachers' / endpoint / 'cqa'
    lines = (folder / 'journal.jsonl').read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    assert len(entries) == 20 * samples
    for entry in entries:
      assert entry['text'] and entry['usage']['completion_tokens'] == 16
      assert entry['finish'] == 'length'
    report = json.loads((folder / 'report.json').read_text())
    assert report['splits']['train']['completed'] == 10
    assert report['splits']['train']['cut'] == 10
  folder = tmp_path / 'runs/teachers/json/cqa'
  report = json.loads((folder / 'report.json').read_text())
  for split in report['splits'].values():
    assert split['completed'] == split['blank_labels'] == 5
    assert split['blank_rationales'] == 5


def test_training_finds_an_extraction_by_its_name(tmp_path):
  """The issue's two commands, in a folder where nothing was before."""
  with _server(fault_rate=0.05, retry_after='0') as address:
    process = _start(tmp_path, address, 'sample', '--data-set', 'cqa')
    print(_finish(process))
  found = records.read(
    'cqa', str(tmp_path / 'runs/teachers/mine'), 'mine', ('train',)
  )
  assert found.reports['train'].empty_rationales == 0
  environment = {
    **os.environ,
    'PYTHONPATH': str(_ROOT),
    'TFDS_DATA_DIR': str(tmp_path / 'tfds'),
  }
  environment.pop('XLA_FLAGS', None)
  command = [sys.executable, '-m', 't5x.train']
  command += [f'--gin_file={_ROOT}/gin/dss_cqa.gin']
  command += ["--gin.TEACHER='mine'", '--gin.TRAIN_STEPS=20']
  command += ['--gin.WARMUP_STEPS=5', '--gin.EVAL_NUM_EXAMPLES=8']
  done = subprocess.run(
    command, cwd=tmp_path, env=environment, capture_output=True, text=True
  )
  print(done.stdout[-3000:])
  assert done.returncode == 0, done.stderr[-3000:]
  metrics = tmp_path / 'runs/dss_cqa/inference_eval'
  names = [path.name for path in metrics.iterdir()]
  assert any('cqa_sample_rationale_mine' in name for name in names), names
