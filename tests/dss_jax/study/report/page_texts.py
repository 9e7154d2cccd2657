"""Report pages of studies whose every text somebody else wrote.

`of` makes the page, the summary and the table of a study of two runs, without
their pictures, whose texts `dss_jax.study.report.figures` draws.
"""

import csv
import dataclasses
import html.parser
import io
import json
import pathlib
from collections.abc import Sequence

from dss_jax.report import predictions, run_files
from dss_jax.study import results
from dss_jax.study.report import answers, cells, comparison, summary, writing
from tests.dss_jax.study import finished_run

# What a reader does not see, and what moves other text.
_UNSEEN = frozenset(
  chr(n)
  for n in (*range(9), *range(14, 32), *range(127, 160), 0x202E, 0x2066, 0x200F)
)


def of(folder: pathlib.Path, texts: Sequence[str]) -> tuple[str, str, str]:
  """Returns the page, the summary and the table of a study with these texts.

  Args:
    folder: an empty one.
    texts: at least one; they are used in turn.
  """
  given = (texts[n % len(texts)] for n in range(1000))
  (folder / results.PREDICTIONS).mkdir()
  runs = []
  shared = {name: next(given) for name in ('data_set', 'data', 'size')}
  question, gold, name = next(given), next(given), next(given)
  for number, method in enumerate(('finetune', 'dss')):
    spec = finished_run.spec(method, teacher=next(given), **shared)
    answer = predictions.Answer(
      name, question, gold, next(given), number == 1, next(given), next(given)
    )
    step = run_files.Evaluation(60, {'test': 50.0}, {'test': (40.0, 60.0)})
    run = results.RunResult(
      spec, {next(given): next(given), 'METHOD': method}, 10,
      {next(given): next(given)}, next(given), next(given), 1.0, {'test': 1},
      step, None, step, f'{results.PREDICTIONS}/{spec.name}.jsonl',
    )  # fmt: skip
    line = json.dumps(dataclasses.asdict(answer))
    (folder / run.predictions).write_text(line + '\n')
    runs.append(run)
  lines = (json.dumps(dataclasses.asdict(run)) for run in runs)
  rows = (json.loads(line) for line in lines)
  text = ''.join(json.dumps(row.pop('spec') | row) + '\n' for row in rows)
  (folder / results.NAME).write_text(text)
  found = results.read(folder)
  marks, table = answers.Marks(folder), cells.arrange(found, ())
  rows = comparison.compare(marks, table)
  page = writing._html(marks, table, rows, {}, 4)
  return page, summary.markdown(table, rows, [], 4), summary.csv_text(found)


class Structure(html.parser.HTMLParser):
  """What a page consists of, but for its texts.

  Attributes:
    tags: each with the names of its attributes, in order.
    data: the text of the element with the id `data`, if there is one.
  """

  def __init__(self, page: str):
    """Reads a page."""
    super().__init__()
    self.tags: list[tuple[str, tuple[str, ...]]] = []
    self.data = ''
    self._in_data = False
    self.feed(page)
    self.close()

  def handle_starttag(self, tag, attrs):
    """Notes a tag."""
    self.tags.append((tag, tuple(name for name, _ in attrs)))
    self._in_data = ('id', 'data') in attrs

  def handle_endtag(self, tag):
    """Notes the end of the data."""
    self._in_data = False

  def handle_data(self, data):
    """Keeps the data."""
    if self._in_data:
      self.data += data


def check(page: str, table: str, plain: Sequence[tuple]) -> None:
  """Raises unless texts of a page are texts, and fields no formulas.

  Args:
    page: from `of`.
    table: likewise.
    plain: the tags of a page whose texts do nothing.
  """
  structure = Structure(page)
  assert set(structure.tags) <= set(plain), set(structure.tags) - set(plain)
  assert structure.tags.count(('script', ())) == 1
  if structure.data:
    json.loads(structure.data)
  assert not _UNSEEN & set(page), sorted(_UNSEEN & set(page))
  page.encode()
  for row in csv.reader(io.StringIO(table)):
    for field in row:
      assert not field.startswith(('=', '@', '\t', '\r')), field
