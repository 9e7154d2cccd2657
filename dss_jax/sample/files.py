"""Files of a generated sample, in the published layout."""

import argparse
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dss_jax import sample


def split(
  data_set: str,
  name: str,
  rows: Iterable[Mapping[str, Any]],
  completions: Sequence[str],
  completions_per_file: int,
) -> dict[str, str]:
  """Returns a split's files as {path below the data folder: text}.

  Args:
    data_set: such as 'cqa'.
    name: of the split, as in its files' names.
    rows: with the published fields.
    completions: the teacher's, one per row.
    completions_per_file: how many one file holds.
  """
  lines = [json.dumps(row, separators=(',', ':')) for row in rows]
  result = {f'{data_set}/{data_set}_{name}.json': '\n'.join(lines) + '\n'}
  for begin in range(0, len(completions), completions_per_file):
    number = begin // completions_per_file
    part = completions[begin : begin + completions_per_file]
    path = f'{data_set}/llm/{name}_CoT_{number}.json'
    result[path] = json.dumps(part, indent=0) + '\n'
  return result


def digest(text: str) -> str:
  """Returns a row's identifier."""
  return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def write(files: Mapping[str, str], output_dir: str) -> None:
  """Writes files below a folder.

  Args:
    files: texts by path, as `split` returns them.
    output_dir: the folder; it is created if need be.
  """
  for path, text in files.items():
    path = os.path.join(output_dir, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w', encoding='utf-8', newline='\n') as f:
      f.write(text)


def main(
  description: str, seed: int, generate: Callable[[int], dict[str, str]]
) -> None:
  """Generates a sample and writes it: the body of each generator's command.

  Args:
    description: its first line is shown by `--help`.
    seed: the default of `--seed`.
    generate: returns the files for a seed.
  """
  parser = argparse.ArgumentParser(description=description.split('\n')[0])
  parser.add_argument('--output_dir', default=sample.DATA_DIR)
  parser.add_argument('--seed', type=int, default=seed)
  args = parser.parse_args()
  generated = generate(args.seed)
  write(generated, args.output_dir)
  for path in generated:
    print(os.path.join(args.output_dir, path))
