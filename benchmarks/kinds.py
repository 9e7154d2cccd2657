"""Rows with two kinds of rationales, made of the packaged CQA sample.

    python -m benchmarks.kinds rows

writes `rows/train.jsonl` and `rows/test.jsonl`. The first kind, 'thought', is
what the sample's teacher wrote. The second, 'elimination', is of our own
making: it names the wrong choices in their order, and then the right one, and
knows nothing that the row does not say.
"""

import json
import pathlib
import sys

from dss_jax import sample
from dss_jax.data import records

_CHOICES = 'Answer Choices:'


def elimination(row: records.Record) -> str:
  """Returns the rationale of the second kind.

  Args:
    row: of the sample.
  """
  lines = row.input.partition(_CHOICES)[2].strip().split('\n')
  choices = [line.partition(') ')[2] for line in lines]
  wrong = [choice for choice in choices if choice != row.label]
  return f'It is not {", not ".join(wrong)}, so it is {row.label}.'


def write(folder: pathlib.Path) -> None:
  """Writes the rows of both splits.

  Args:
    folder: where to.
  """
  folder.mkdir(parents=True, exist_ok=True)
  found = records.read('cqa', sample.DATA_DIR).splits
  for split in ('train', 'test'):
    lines = []
    for row in found[split]:
      both = {'thought': row.rationale, 'elimination': elimination(row)}
      line = {'id': row.id, 'input': row.input, 'label': row.label}
      lines.append(json.dumps({**line, 'rationale': both}) + '\n')
    (folder / f'{split}.jsonl').write_text(''.join(lines), encoding='utf-8')


if __name__ == '__main__':
  write(pathlib.Path(sys.argv[1]))
