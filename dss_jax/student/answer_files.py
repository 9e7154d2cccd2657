"""Answers to any number of rows, resumed after a kill.

    answers.csv                          all answers, at the end
    tmp-answers.csv/…-chunk00000, …      finished ones, while they are made
    tmp-answers.csv/identity.json        what they are answers to, and whose

A chunk gets its name when it is complete. The command that is given again after
a kill goes on after the last one, so that no row is answered twice or left out;
it is refused if weights, rows or options are others. Memory holds one chunk.
"""

import dataclasses
import hashlib
import itertools
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Any

from dss_jax import errors
from dss_jax.student import answering, row_inputs, tables
from dss_jax.student import usage as usage_lib
from t5x import checkpoints, files
from t5x.inference import results
from t5x.run import progress

# Batches of a chunk, whose rows are sorted by their length.
_BATCHES = 32
# Answers that are shown at the end.
_SHOWN = 3
LABEL = 'predicted_label'
RATIONALE = 'predicted_rationale'
_PROBABILITY = 'probability_of_'

_Rows = Sequence[tuple[str, Mapping[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Options:
  """What is asked of each row.

  Attributes:
    explain: whether a rationale is asked for, too.
    kinds: of rationales, by name; () for the first alone.
    probabilities: whether each class's probability is.
  """

  explain: bool = False
  probabilities: bool = False
  kinds: tuple[str, ...] = ()

  @property
  def columns(self) -> dict[str, str | None]:
    """The columns of rationales, each with its kind."""
    if not self.explain:
      return {}
    if not self.kinds:
      return {RATIONALE: None}
    return {f'{RATIONALE}.{kind}': kind for kind in self.kinds}


@dataclasses.dataclass
class Done:
  """What came out.

  Attributes:
    rows: all of them.
    before: those that an earlier process had answered.
    cut: those of this process that were longer than the student reads.
    seconds: that this process took for its rows.
    first: the first rows with their answers.
  """

  rows: int
  before: int
  cut: int = 0
  seconds: float = 0.0
  first: list[dict[str, Any]] = dataclasses.field(default_factory=list)


def answer(
  student: answering.Student,
  rows: row_inputs.RowInputs,
  out: str,
  options: Options,
) -> Done:
  """Answers rows, and writes a file.

  Args:
    student: who answers.
    rows: what it is asked.
    out: a local file that does not exist; its ending says which form it has.

  Raises:
    DataError: `out` exists, or a row is malformed.
    UserError: another process writes it, or unfinished answers are others'.
  """
  ending = tables.check_ending(out)
  if files.is_remote(out):
    raise errors.DataError(
      f'{out}: expected a local file. Copy it from there in the end.'
    )
  if os.path.exists(out):
    raise errors.DataError(
      f'{out}: exists already. Give another name with --out, or remove it.'
    )
  folder, name = os.path.split(os.path.abspath(out))
  tmp = os.path.join(folder, f'tmp-{name}')
  with files.naming_path_in_errors(folder, name='--out'):
    os.makedirs(folder, exist_ok=True)
    with files.folder_lock.writing(folder, f'writer-{name}.json'):
      total = rows.survey(_added(student, options))
      of_chunk = _BATCHES * student.batches.rows
      identity = _identity(student, rows, options, total, of_chunk)
      results.open_tmp_dir(
        tmp, identity, resume=True, fix='give another name with --out'
      )
      before = results.finished_chunks(tmp, name)
      done = Done(total, min(before * of_chunk, total))
      _answer_chunks(student, rows, options, done, (tmp, name), of_chunk)
      count = results.finished_chunks(tmp, name)
      chunks = [results.chunk_path(tmp, name, i) for i in range(count)]
      done.first = list(itertools.islice(tables.rows(chunks), _SHOWN))
      with files.replacing(out) as work:
        tables.write(chunks, os.fspath(work), ending)
      shutil.rmtree(tmp)
  return done


def _added(student: answering.Student, options: Options) -> list[str]:
  """Returns the columns that answers have."""
  names = [LABEL, *options.columns]
  if options.probabilities:
    names += [f'{_PROBABILITY}{name}' for name in student.weighed_classes()]
  return names


def _identity(
  student: answering.Student,
  rows: row_inputs.RowInputs,
  options: Options,
  total: int,
  of_chunk: int,
) -> dict[str, Any]:
  """Returns what decides the answers. Folders may be moved."""
  vocabulary = student.model.output_vocabulary
  content = getattr(vocabulary, 'sp_model', None) or repr(vocabulary).encode()
  return {
    'weights': checkpoints.digest(student.checkpoint),
    'network': repr(getattr(student.model.module, 'config', None)),
    'decoding': {k: repr(v) for k, v in student.decode_options.items()},
    'vocabulary': hashlib.sha256(content).hexdigest()[:16],
    'usage': _without_one_kind(student.usage),
    'rows': {'files': rows.digests, 'column': rows.column, 'number': total},
    'options': _without_one_kind(options),
    'rows of a chunk': of_chunk,
  }


def _without_one_kind(values: usage_lib.Usage | Options) -> dict[str, Any]:
  """Returns what answers were told by before there were kinds."""
  found = dataclasses.asdict(values)
  if found['kinds'] == type(values)().kinds:
    del found['kinds']
  return found


def _answer_chunks(
  student: answering.Student,
  rows: row_inputs.RowInputs,
  options: Options,
  done: Done,
  place: tuple[str, str],
  of_chunk: int,
) -> None:
  """Answers the rows of the chunks that are not there yet."""
  begin = time.monotonic()
  source = rows.read(done.before)
  with progress.rows(place[1], done.rows, done.before) as shown:
    for index in itertools.count(-(-done.before // of_chunk)):
      chunk = list(itertools.islice(source, of_chunk))
      if not chunk:
        break
      answers, cut = _answered(student, chunk, options)
      done.cut += cut
      with files.replacing(results.chunk_path(*place, index)) as work:
        work.write_text(''.join(f'{tables.as_line(x)}\n' for x in answers))
      shown.advance(len(chunk))
      shown.report()
  done.seconds = time.monotonic() - begin


def _answered(
  student: answering.Student, rows: _Rows, options: Options
) -> tuple[list[dict[str, Any]], int]:
  """Returns rows with their answers, and how many inputs were cut."""
  texts = [text for text, _ in rows]
  replies = student.ask(texts)
  added: list[dict[str, Any]] = [
    {LABEL: student.label_of(reply)} for reply in replies.texts
  ]
  for name, kind in options.columns.items():
    told = replies
    if student.method == 'dss':
      told = student.ask(texts, explain=True, kind=kind)
    for new, reply in zip(added, told.texts, strict=True):
      new[name] = student.rationale_of(reply)
  if options.probabilities:
    weighed = student.probabilities(texts)
    for new, one in zip(added, weighed, strict=True):
      new |= {f'{_PROBABILITY}{k}': v for k, v in one.items()}
  joined = [{**row, **new} for (_, row), new in zip(rows, added, strict=True)]
  return joined, replies.cut
