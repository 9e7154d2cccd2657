"""What is read from outside, one function a reader: bytes in, no surprise out.

A target returns, whatever the bytes are, or raises: that is a finding. Errors
that name what is wrong with the bytes are what the readers promise, so targets
catch them. `python -m tests.fuzz.run` tries inputs by the million.
"""

import fractions
import functools
import gzip
import io
import json
import os
import pathlib
import tempfile
import zipfile
from collections.abc import Callable
from typing import Any

# A file system in memory where there is one: targets write a file each time.
_MEMORY = '/dev/shm'


def _folder() -> tempfile.TemporaryDirectory:
  place = _MEMORY if os.path.isdir(_MEMORY) else None
  return tempfile.TemporaryDirectory(dir=place, prefix='fuzz-')


def equation(content: bytes) -> None:
  """A label of an arithmetic set: a number, or nothing."""
  from dss_jax.data import equations

  text = content.decode(errors='replace')
  value = equations.evaluate(text)
  assert value is None or isinstance(value, fractions.Fraction)
  equations.same_value(text, '12')


def journal(content: bytes) -> None:
  """An extraction's journal: entries that can be written again, or none."""
  from dss_jax.extract import journal as journal_lib

  with _folder() as folder:
    path = pathlib.Path(folder, 'journal.jsonl')
    path.write_bytes(content)
    for offset, entry in journal_lib.scan(path):
      assert 0 <= offset < max(len(content), 1)
      if entry is not None:
        assert journal_lib.parse(entry.line()) is not None


# Stands in the environment of whoever asks; servers repeat it.
_KEY = 'sk-0123456789abcdef-secret'


def server_reply(content: bytes) -> None:
  """An API's answer: a completion that can be kept and read, or a failure.

  The first byte says which status it has, and what was asked.
  """
  from dss_jax.extract.api import bodies, failures
  from dss_jax.extract.api import secrets as secrets_lib

  statuses = (200, 200, 200, 200, 400, 401, 429, 500)
  kind = content[0] if content else 0
  status, is_chat, data = statuses[kind % 8], bool(kind & 8), content[1:]
  secrets = secrets_lib.Secrets(_KEY)
  try:
    if status != 200:
      location = data[:99].decode(errors='replace') if kind & 16 else ''
      raise bodies.failure(status, data, secrets, None, location)
    found = bodies.completion(
      bodies.json_object(data, secrets), is_chat, secrets
    )
    bodies.check_answer(found, '')
  except bodies.EmptyReply as failure:
    _check_message(failure)
    _check_kept(failure.completion)
  except failures.Failure as failure:
    _check_message(failure)
  else:
    _check_kept(found)
    _check_read(found.text, bool(kind & 32), bool(kind & 64))


def _check_message(failure: Exception) -> None:
  message = str(failure)
  assert len(message) < 1000 and _KEY not in message, message
  bare = message.replace('\u200c', '').replace('\u200d', '')
  assert bare.isprintable(), message


def _check_kept(found: Any) -> None:
  """A completion is kept as it came, but for the key."""
  from dss_jax.extract import journal as journal_lib

  entry = journal_lib.Entry(
    'train', 0, 'a', 0, 1, 'm', {}, found.text, found.finish, found.usage,
    found.refusal, 1.0, found.thoughts,
  )  # fmt: skip
  line = entry.line()
  assert _KEY.encode() not in line and journal_lib.parse(line) == entry


@functools.cache
def _prompts() -> list[Any]:
  from dss_jax.extract import prompt_files, prompts
  from dss_jax.extract.replies import structured

  own = prompts.Prompt('', 'Q: {input}', '{rationale} So: {label}', (), ())
  asked = {
    name: prompt_files.packaged(name) for name in ('cqa', 'svamp', 'esnli')
  }
  in_json = [
    prompts.as_json(prompt, structured.of(name))
    for name, prompt in asked.items()
  ]
  return [own, *asked.values(), *in_json]


def _check_read(text: str, opened: bool, cut: bool) -> None:
  """Neither rationale nor label has a tag, in any format."""
  from dss_jax.extract.replies import thoughts

  for prompt in _prompts():
    parsed = prompt.parse(prompt.reply(text, opened), cut)
    both = f'{parsed.rationale}\n{parsed.label}'
    assert not thoughts.has_tag(both), both
    both.encode()


def neutral_text(content: bytes) -> None:
  """Any text, as it is shown: on a terminal, in HTML, and in a table file."""
  from dss_jax import neutral

  text = content.decode('utf-8', 'surrogateescape')
  for shown in (neutral.text(text), neutral.line(text, 50)):
    assert not {'\x1b', '\x07', '\x9b', '\u202e', '\r'} & set(shown), shown
    shown.encode()
  assert not set('<>"') & set(neutral.markup(text))
  cell = neutral.cell(text)
  assert not cell.lstrip(' ').startswith(('=', '@', '\t'))
  file = io.StringIO()
  console = neutral.console(file=file, width=80)
  console.print(text)
  assert '\x1b' not in file.getvalue()


@functools.cache
def _plain_tags() -> list[tuple]:
  from tests.dss_jax.study.report import page_texts

  with _folder() as folder:
    page, _, _ = page_texts.of(pathlib.Path(folder), list('abcdefg'))
  return page_texts.Structure(page).tags


def report_texts(content: bytes) -> None:
  """Texts of a study's report, which others wrote: they stay texts."""
  from tests.dss_jax.study.report import page_texts

  text = content.decode('utf-8', 'surrogateescape')
  with _folder() as folder:
    page, summary, table = page_texts.of(pathlib.Path(folder), text.split('\0'))
  page_texts.check(page, table, _plain_tags())
  summary.encode()


def study_results(content: bytes) -> None:
  """A study's results and its file: read, or refused by their name."""
  from dss_jax import errors
  from dss_jax.study import results, study_file

  with _folder() as folder:
    path = pathlib.Path(folder)
    (path / results.NAME).write_bytes(content)
    (path / study_file.NAME).write_bytes(content)
    for read, name in (
      (results.read, results.NAME),
      (study_file.stored, study_file.NAME),
    ):
      try:
        read(path)
      except errors.DataError as error:
        assert name in str(error) or str(error).startswith('--')


def release(content: bytes) -> None:
  """Files of the published layout: rows, and what the teacher wrote."""
  from dss_jax import errors
  from dss_jax.data import records

  parts = content.split(b'\0', 2)
  with _folder() as folder:
    place = pathlib.Path(folder, 'svamp')
    (place / 'llm').mkdir(parents=True)
    for split in ('train', 'test'):
      (place / f'svamp_{split}.json').write_bytes(parts[0])
      (place / 'llm' / f'{split}_CoT_0.json').write_bytes(parts[-1])
    try:
      found = records.read('svamp', folder)
      assert len(found.splits['train']) == len(found.splits['test'])
    except errors.DataError as error:
      assert 'svamp' in str(error)


def release_zip(content: bytes) -> None:
  """The same in a zip, which is any bytes."""
  from dss_jax import errors
  from dss_jax.data import records

  with _folder() as folder:
    path = pathlib.Path(folder, 'release.zip')
    path.write_bytes(content)
    try:
      records.read('svamp', str(path))
    except errors.DataError as error:
      assert 'svamp' in str(error) or str(path) in str(error)
    assert os.listdir(folder) == ['release.zip']


def own_data(content: bytes) -> None:
  """Rows of the user's own, in every form that they may have."""
  from dss_jax import errors
  from dss_jax.data import own_rows

  with _folder() as folder:
    for name in (
      'rows.jsonl', 'rows.json', 'rows.csv', 'rows.tsv', 'rows.parquet',
      'rows.jsonl.gz', 'packed.json.gz',
    ):  # fmt: skip
      path = pathlib.Path(folder, name)
      packed = name.startswith('packed')
      path.write_bytes(gzip.compress(content) if packed else content)
      try:
        own_rows.read_one(str(path))
      except errors.DataError as error:
        assert name in str(error)


def torch_pickle(content: bytes) -> None:
  """The pickle in a PyTorch file, in either layout."""
  from t5x import errors
  from t5x.checkpoints.formats import torch_pickle as torch_pickle_lib

  packed = io.BytesIO()
  with zipfile.ZipFile(packed, 'w') as archive:
    archive.writestr('archive/data.pkl', content)
    archive.writestr('archive/data/0', bytes(24))
  with _folder() as folder:
    path = pathlib.Path(folder, 'pytorch_model.bin')
    for file in (packed.getvalue(), content):
      path.write_bytes(file)
      try:
        tensors = torch_pickle_lib.open_file(path)
        for tensor in tensors.values():
          assert all(n >= 0 for n in tensor.shape)
      except errors.UserError as error:
        assert str(path) in str(error)


def orbax_metadata(content: bytes) -> None:
  """The description of a checkpoint, and the position beside it."""
  from t5x import checkpoints, errors
  from t5x.checkpoints.formats import orbax

  with _folder() as folder:
    path = os.path.join(folder, 'checkpoint_1')
    for part, name in (('state', '_METADATA'), ('dataset', 'metadata')):
      os.makedirs(os.path.join(path, part))
      with open(os.path.join(path, part, name), 'wb') as file:
        file.write(content)
    with open(os.path.join(path, 'state', 'manifest.ocdbt'), 'wb'):
      pass
    checkpoints.all_steps(folder)
    for read in (orbax.read, orbax.read_position):
      try:
        read(path)
      except errors.UserError as error:
        assert path in str(error)


def legacy_index(content: bytes) -> None:
  """The msgpack index of a legacy checkpoint."""
  from t5x import errors
  from t5x.checkpoints.formats import legacy_t5x

  with _folder() as folder:
    with open(os.path.join(folder, 'checkpoint'), 'wb') as file:
      file.write(content)
    try:
      legacy_t5x.read(folder)
    except errors.UserError as error:
      assert folder in str(error)


def snapshot(content: bytes) -> None:
  """A snapshot of the input."""
  from t5x.data import snapshots

  try:
    found = snapshots.Snapshot.from_bytes(content)
    again = snapshots.Snapshot.from_bytes(found.to_bytes())
    assert again == found
  except snapshots.UnusableError:
    pass


def macro(content: bytes) -> None:
  """`--gin.NAME=VALUE`: taken or refused, and never run."""
  name, _, value = content.decode(errors='replace').partition('\0')
  taken_or_refused(name, value)


def taken_or_refused(name: str, value: str) -> None:
  """Gives `--gin.NAME=VALUE` to what reads a program's flags."""
  import gin
  from t5x import errors, gin_utils

  gin.clear_config()
  try:
    args = gin_utils.rewrite_gin_args([f'--gin.{name}={value}'])
    gin_utils.parse_gin_flags([], [], [a.split('=', 1)[1] for a in args])
  except errors.UserError as error:
    assert str(error)
  finally:
    gin.clear_config()


_ROW = {
  'split': 'train',
  'index': 0,
  'id': 'a',
  'sample': 0,
  'prompt': '00000000000000ff',
  'model': 'm',
  'parameters': {'n': 1},
  'text': 'So the answer is (a).',
  'finish': 'stop',
  'usage': {'n': 3},
  'error': '',
  'time': 1.5,
}
_REPLY = {
  'choices': [
    {
      'message': {
        'content': '<think>Hm?</think> It is. So the answer is (a) tin.',
        'reasoning': 'Hm.',
      },
      'text': '{"rationale": "It is.", "label": "neutral"}',
      'finish_reason': 'stop',
    }
  ],
  'usage': {'prompt_tokens': 3},
}
_TREE = {
  'use_ocdbt': True,
  'tree_metadata': {
    "('target', 'w')": {
      'key_metadata': [{'key': 'target', 'key_type': 2}],
      'value_metadata': {'value_type': 'jax.Array', 'skip_deserialize': False},
    }
  },
}
_PROBLEM = {'Body': 'A.', 'Question': 'B?', 'Equation': '( 1 + 2 )', 'ID': '1'}


_RESULT = (
  b'{"name": "dss_s0", "data_set": "cqa", "data": "sample", "method": "dss",'
  b' "labels": "gold", "teacher": null, "alpha": 0.2, "size": "tiny",'
  b' "fraction": 1.0, "seed": 0, "steps": 60, "label_examples": null,'
  b' "train_rows": 9, "teacher_accuracy": {}, "by_value": false,'
  b' "settings": {}, "parameters": 1, "versions": {}, "commit": null,'
  b' "device": "", "seconds": 1.0, "rows": {"test": 1}, "last": {"step": 60,'
  b' "accuracy": {"test": 50.0}, "interval": {"test": [40, 60]}},'
  b' "best_validation": null, "best_test": {"step": 60, "accuracy": {"test":'
  b' 50.0}, "interval": {"test": [40, 60]}},'
  b' "predictions": "predictions/dss_s0.jsonl"}\n'
)


def _zip() -> bytes:
  packed = io.BytesIO()
  with zipfile.ZipFile(packed, 'w') as archive:
    for split in ('train', 'test'):
      archive.writestr(f'svamp/svamp_{split}.json', json.dumps(_PROBLEM) + '\n')
      archive.writestr(f'svamp/llm/{split}_CoT_0.json', '["The answer is 3."]')
  return packed.getvalue()


def _gzip_rows() -> bytes:
  """A small packed file of own rows."""
  return gzip.compress(b'{"input": "a", "label": "b"}\n', mtime=0)


def _parquet_rows() -> bytes:
  """A small Parquet file of own rows."""
  import pyarrow
  from pyarrow import parquet

  packed = io.BytesIO()
  rows = {'input': ['a', 'b'], 'rationale': [['c', 'd'], None]}
  parquet.write_table(pyarrow.table(rows), packed)
  return packed.getvalue()


# What each target starts from.
SEEDS: dict[Callable[[bytes], None], list[bytes]] = {
  equation: [b'( 10.0 * 45.0 )', b'-2 ** 3 and (4 - 1) / .5', b'((((1))))'],
  server_reply: [
    kind + json.dumps(_REPLY).encode() for kind in (b'\0', b'\x08', b'\x68')
  ]
  + [
    b'\x04{"error": {"message": "Bad key '
    + _KEY.encode()
    + b'", "code": "x"}}',
    b'\x17<html><p>Bearer abcdef123456</p></html>',
    b'\x08data: {"error": {"message": "no"}}\n\n',
  ],
  neutral_text: [b'[red]a[/red]\x1b[2J', '=cmd()\u202e'.encode()],
  report_texts: [
    b'</script><script>a</script>\0=cmd()\0\x1b[31m\0"onclick=1',
    '<img src=x onerror=1>\0\u202e|\n# a'.encode(),
  ],
  study_results: [
    _RESULT,
    b'experiment: cqa\nmethods: [dss]\nfractions: [0.5, 1]\nset: {A: 1e-4}\n',
  ],
  journal: [json.dumps(_ROW).encode() + b'\n' + json.dumps(_ROW).encode()],
  release: [json.dumps(_PROBLEM).encode() + b'\n\0["The answer is (1 + 2)."]'],
  release_zip: [_zip()],
  own_data: [
    b'{"input": "a", "label": "b", "rationale": ["c", "d"]}\n',
    b'input,label,rationale\na,b,"c\nd"\n',
    b'input\tlabel\na\tb\n',
    b'[{"input": "a", "label": 1.0},\n {"input": "b", "label": NaN}]',
    b'{\n "input": "a",\n "label": true\n}\n{"input": "b"}',
    _gzip_rows(),
    _parquet_rows(),
  ],
  torch_pickle: [
    # {} ; a dict of one tensor of six numbers in rows of three.
    b'\x80\x02}q\x00.',
    b'\x80\x02}q\x00X\x01\x00\x00\x00wq\x01ctorch._utils\n_rebuild_tensor_v2\n'
    b'q\x02((X\x07\x00\x00\x00storageq\x03ctorch\nFloatStorage\nq\x04X\x01\x00'
    b'\x00\x000q\x05X\x03\x00\x00\x00cpuq\x06K\x06tq\x07QK\x00K\x02K\x03\x86q'
    b'\x08K\x03K\x01\x86q\x09\x89ccollections\nOrderedDict\nq\x0a)Rq\x0btq\x0c'
    b'Rq\x0ds.',
  ],
  orbax_metadata: [json.dumps(_TREE).encode(), b'{"batches": 12}'],
  legacy_index: [
    b'\x82\xa7version\x03\xa9optimizer\x81\xa6target\x81\xa1w\xc0',
  ],
  snapshot: [
    b'{"batches": 1, "format": 1, "next_batch": 2, "pipeline": 3,'
    b' "state_bytes": 4, "state_crc": 0, "tensorflow": "2.21.0"}\n',
  ],
  macro: [b'ALPHA\x000.5', b"MODEL_DIR\0'runs/a'", b'train.seed\0@f()'],
}
TARGETS = {target.__name__: target for target in SEEDS}
