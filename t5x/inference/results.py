"""Result files of an inference: rows as JSON lines, chunks, and their merging.

    <output_dir>/tmp-<name>/<name>-chunk00000    finished rows, while it runs
    <output_dir>/<name>                          all rows, at the end

where name is `<task>-<mode>.jsonl-<shard>-of-<shards>`. A chunk gets its name
when it is complete, so the chunks that exist are done.
"""

import base64
import itertools
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import seqio
import tensorflow as tf

from t5x import errors, files

Inferences = tuple[Sequence[Any], Mapping[str, Any]]

_SUFFIX = '_pretokenized'
# Differences that a message lists.
_MAX_LISTED = 8
# Characters of a text among the first answers.
_MAX_SHOWN = 100


def write_inferences_to_file(
  path: str,
  inferences: Inferences,
  task_ds: tf.data.Dataset,
  mode: str,
  vocabulary: seqio.Vocabulary | None = None,
  json_encoder_cls: type[json.JSONEncoder] = seqio.TensorAndNumpyEncoder,
  include_all_inputs: bool = False,
  input_fields_to_include: Sequence[str] | None = None,
  output_ids: bool = False,
) -> None:
  """Writes one JSON line for each example, in the dataset's order.

  A line of mode 'predict' is, for example,

      {"inputs": {"inputs_pretokenized": "predict: 2 + 3",
                  "targets_pretokenized": "5"}, "prediction": "5"}

  Mode 'predict_with_aux' adds "aux", mode 'score' has "score" in place of
  "prediction". Several decodes of an example become a list.

  Args:
    path: the file.
    inferences: outputs, and a mapping of name to a value for each of them.
    task_ds: the examples, as the task gives them.
    mode: 'predict', 'predict_with_aux' or 'score'.
    vocabulary: turns predicted tokens into text.
    json_encoder_cls: encodes what is neither text, number nor array.
    include_all_inputs: whether "inputs" has all features of the example,
      tokens too, instead of those before tokenization.
    input_fields_to_include: if given, the features that "inputs" has; 'inputs'
      stands for 'inputs_pretokenized' as well.
    output_ids: whether the predicted tokens are written as well, up to the
      first padding, as "prediction_tokens".

  Raises:
    errors.UserError: for options that contradict each other, a feature that
      examples don't have, or a number of outputs that is not the examples'.
  """
  if mode not in ('predict', 'predict_with_aux', 'score'):
    raise errors.UserError(f'write_inferences_to_file: unknown mode {mode!r}.')
  if include_all_inputs and input_fields_to_include is not None:
    raise errors.UserError(
      'write_inferences_to_file: include_all_inputs and'
      ' input_fields_to_include exclude each other. Set one of them.'
    )
  if vocabulary is None and mode != 'score':
    raise errors.UserError(
      f'write_inferences_to_file: mode {mode!r} needs a vocabulary to turn'
      ' tokens into text.'
    )
  outputs, aux = inferences
  fields = _fields(
    task_ds.element_spec, include_all_inputs, input_fields_to_include
  )
  count = 0
  with tf.io.gfile.GFile(path, 'w') as f:
    for i, example in enumerate(task_ds):
      count += 1
      if i >= len(outputs):
        continue
      line: dict[str, Any] = {'inputs': {k: plain(example[k]) for k in fields}}
      if mode == 'score':
        line['score'] = plain(outputs[i])
      else:
        line['prediction'] = decode(outputs[i], vocabulary)
        if output_ids:
          line['prediction_tokens'] = _until_padding(plain(outputs[i]))
      if aux:
        line['aux'] = plain(row_of(aux, i))
      f.write(json.dumps(line, cls=json_encoder_cls, ensure_ascii=False) + '\n')
  if count != len(outputs):
    raise errors.UserError(
      f'{path}: expected one output for each of {count} examples, found'
      f' {len(outputs)}.'
    )


def _fields(
  spec: Mapping[str, Any], everything: bool, chosen: Sequence[str] | None
) -> list[str]:
  """Returns the features of an example to write."""
  if everything:
    return sorted(spec)
  if chosen is None:
    before = sorted(k for k in spec if k.endswith(_SUFFIX))
    # A task that keeps no text has its features as they are.
    return before or sorted(spec)
  for name in chosen:
    if name not in spec:
      raise errors.UserError(
        f'input_fields_to_include: examples have no feature {name!r}, but'
        f' {sorted(spec)}.{errors.did_you_mean(name, spec)}'
      )
  both = {*chosen, *(name + _SUFFIX for name in chosen)}
  return sorted(both & set(spec))


def decode(tokens: Any, vocabulary: seqio.Vocabulary) -> Any:
  """Returns the text of token ids [T], or texts of nested lists of them."""
  tokens = plain(tokens)
  if tokens and isinstance(tokens[0], list):
    return [decode(row, vocabulary) for row in tokens]
  return vocabulary.decode(tokens)


def _until_padding(tokens: list[Any]) -> list[Any]:
  if tokens and isinstance(tokens[0], list):
    return [_until_padding(row) for row in tokens]
  return tokens[: tokens.index(0)] if 0 in tokens else tokens


def row_of(tree: Any, index: int) -> Any:
  """Returns the tree of the values that belong to one row.

  `row_of({'scores': [0.1, 0.2]}, 1)` is `{'scores': 0.2}`.
  """
  return jax.tree.map(
    lambda column: column[index],
    tree,
    is_leaf=lambda x: isinstance(x, (list, np.ndarray)),
  )


def plain(value: Any) -> Any:
  """Returns tensors, arrays and bytes as lists, numbers and text."""
  if isinstance(value, tf.RaggedTensor):
    return value.to_list()
  if isinstance(value, tf.Tensor):
    value = value.numpy()
  if isinstance(value, (np.ndarray, np.generic)):
    value = value.tolist()
  if isinstance(value, bytes):
    try:
      return value.decode('utf-8')
    except UnicodeDecodeError:
      return base64.b64encode(value).decode('ascii')
  if isinstance(value, Mapping):
    return {k: plain(v) for k, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [plain(v) for v in value]
  return value


def merge_chunks_to_file(
  output_dir: str, output_fname: str, tmp_dir: str, step: int | None
) -> None:
  """Joins the chunks of `tmp_dir`, in their order, into one file.

  The file appears when it is complete.

  Args:
    output_dir: where it goes.
    output_fname: its name, with which the names of the chunks start.
    tmp_dir: where the chunks are.
    step: of the checkpoint; for functions that put it into the name.
  """
  del step
  target = os.path.join(output_dir, output_fname)
  with files.replacing(target) as work, work.open('wb') as merged:
    for index in range(finished_chunks(tmp_dir, output_fname)):
      with tf.io.gfile.GFile(
        chunk_path(tmp_dir, output_fname, index), 'rb'
      ) as chunk:
        while block := chunk.read(1 << 20):
          merged.write(block)


def chunk_path(tmp_dir: str, output_fname: str, index: int) -> str:
  """Returns the path of a chunk."""
  return os.path.join(tmp_dir, f'{output_fname}-chunk{index:05}')


def finished_chunks(tmp_dir: str, output_fname: str) -> int:
  """Returns how many chunks, from the first one on, are done."""
  done = {
    int(match.group(1))
    for name in tf.io.gfile.listdir(tmp_dir)
    if (match := re.fullmatch(re.escape(output_fname) + r'-chunk(\d+)', name))
  }
  return next(i for i in range(len(done) + 1) if i not in done)


def _flat(tree: Any, name: str = '') -> dict[str, Any]:
  """`{'a': {'b': 1}}` is `{'a/b': 1}`."""
  if not isinstance(tree, dict) or not tree:
    return {name: tree}
  return {
    key: leaf
    for part, subtree in tree.items()
    for key, leaf in _flat(subtree, f'{name}/{part}' if name else part).items()
  }


def open_tmp_dir(
  tmp_dir: str,
  identity: Mapping[str, Any],
  resume: bool,
  fix: str = 'give another output folder (macro INFER_OUTPUT_DIR)',
) -> None:
  """Makes the folder of the chunks, empty unless an inference is resumed.

  Args:
    tmp_dir: the folder.
    identity: what decides the rows; kept there as `identity.json`.
    resume: whether to keep the chunks of an earlier inference.
    fix: what the user may do other than to remove the folder.

  Raises:
    errors.UserError: those chunks come from another configuration.
  """
  path = os.path.join(tmp_dir, 'identity.json')
  identity = json.loads(json.dumps(identity))
  if tf.io.gfile.exists(path) and resume:
    with tf.io.gfile.GFile(path) as f:
      there, now = _flat(json.load(f)), _flat(identity)
    differing = [
      f'{name}: {there.get(name)!r} there, {now.get(name)!r} now'
      for name in dict.fromkeys([*now, *there])
      if there.get(name) != now.get(name)
    ]
    if len(differing) > _MAX_LISTED:
      more = len(differing) - _MAX_LISTED
      differing = [*differing[:_MAX_LISTED], f'and {more} more']
    if differing:
      raise errors.UserError(
        f'{tmp_dir} holds an unfinished inference of another configuration'
        f' ({"; ".join(differing)}). Remove the folder, or {fix}.'
      )
    return
  if tf.io.gfile.exists(tmp_dir):
    tf.io.gfile.rmtree(tmp_dir)
  tf.io.gfile.makedirs(tmp_dir)
  with files.replacing(path) as work:
    work.write_text(json.dumps(identity, indent=2))


def first_answers(path: str, most: int = 3) -> str:
  """Returns the first answers of a result file, and where all of them are.

  Args:
    path: of a file of JSON lines, as `write_inferences_to_file` writes them; of
      another file, only its path is said.
    most: answers to show.
  """
  lines: list[str] = []
  try:
    with tf.io.gfile.GFile(path) as f:
      for line in itertools.islice(f, most):
        row = json.loads(line)
        answer = row['prediction'] if 'prediction' in row else row['score']
        asked = row['inputs'].get(f'inputs{_SUFFIX}', '')
        lines += [_shown(asked)] if asked else []
        lines.append(f'  -> {_shown(answer)}')
  except (ValueError, KeyError, TypeError, AttributeError):
    lines = []  # The user's own form of results.
  return '\n'.join([*lines, f'answers: {path}'])


def _shown(value: Any) -> str:
  text = ' '.join(str(value).split())
  return text if len(text) <= _MAX_SHOWN else f'{text[:_MAX_SHOWN]}…'
