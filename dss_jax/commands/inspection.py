"""Inspection of what an experiment trains on: counts, lengths, faults."""

import array
import collections
import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import seqio

from dss_jax.commands import unknown_text
from dss_jax.data import (
  own_rows,
  places,
  progress,
  records,
  row_formats,
  tfds_builders,
)
from dss_jax.pipeline import experiment as experiment_lib
from dss_jax.pipeline import lengths as lengths_lib
from dss_jax.pipeline import preprocessors, registration, row_shapes, sources
from t5x import data

PERCENTILES = (50, 90, 99, 100)
EXAMPLES = 5
# Lengths of packed rows to choose from.
ROW_LENGTHS = (256, 512, 1024)
# How many rows of a task are tokenized for that, and how many examples packed.
_COUNTED = 1024
_PACKED = 2048
# The feature whose length limits the text of a column; for a column of
# rationales, the targets.
SIDES = {'input': 'inputs', 'label': 'targets'}


@dataclasses.dataclass(frozen=True)
class Length:
  """Lengths of the texts of a column, in tokens with the end token.

  Attributes:
    percentiles: of the lengths, by `PERCENTILES`; the last is the longest.
    limit: the length that texts are cut to; None if they are not, as in the
      test split.
    cut_rows: number of longer texts.
    cut_tokens: number of tokens that are cut off.
    tokens: number of all tokens.
  """

  percentiles: tuple[int, ...]
  limit: int | None
  cut_rows: int
  cut_tokens: int
  tokens: int


@dataclasses.dataclass(frozen=True)
class Split:
  """A split, as an experiment draws it.

  Attributes:
    report: its counts.
    labels: gold labels with their numbers, the most frequent first.
    lengths: by column, of the texts that are not blank.
    faults: for each kind of fault, the places of its rows.
  """

  report: records.Report
  labels: tuple[tuple[str, int], ...]
  lengths: Mapping[str, Length]
  faults: Mapping[str, places.Places]


@dataclasses.dataclass(frozen=True)
class Example:
  """A tokenized example: tokens and decoded texts of its features."""

  tokens: Mapping[str, tuple[int, ...]]
  texts: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Findings:
  """Result of `inspect`.

  Attributes:
    released: reports on the files, before rows are drawn.
    splits: what training sees, by name.
    overlaps: for two splits, how many rows of the second have an input that the
      first has too.
    examples: the first ones of the train split, by task.
    packed: how full packed rows of the requested lengths would be; None if
      there is nothing to pack.
    shapes: the same for the row shapes that suit the train split best, one per
      length in `ROW_LENGTHS`; none if there is nothing to pack.
    lengths: to which training cuts examples.
    cuts: what the examples of the train split lose at them, by task.
    unknown: what the vocabulary does not know.
  """

  released: Mapping[str, records.Report]
  splits: Mapping[str, Split]
  overlaps: Mapping[tuple[str, str], int]
  examples: Mapping[str, Sequence[Example]]
  packed: row_shapes.Fill | None
  shapes: Sequence[row_shapes.Fill]
  lengths: Mapping[str, int]
  cuts: Sequence[lengths_lib.Cut]
  unknown: unknown_text.Findings


def read(experiment: experiment_lib.Experiment) -> records.Release:
  """Reads an experiment's rows from their files, not from prepared data.

  Args:
    experiment: whose rows; not the release, which must be fetched first.

  Raises:
    DataError: a file is missing or malformed.
  """
  rows = experiment.rows
  if isinstance(rows, own_rows.OwnData):
    return own_rows.read(rows, experiment.needs, graded=experiment.graded)
  location = tfds_builders.sample_location() if rows == 'sample' else rows
  release = records.read(experiment.data_set, location, experiment.used_teacher)
  if experiment.teachers is None or not experiment.uses_rationales:
    return release
  return _with_kinds(
    release,
    [
      records.read(experiment.data_set, location, experiment.teacher_of(kind))
      for kind in experiment.kinds
    ],
  )


def _with_kinds(
  release: records.Release, of_kinds: Sequence[records.Release]
) -> records.Release:
  """Gives rows the rationales of several teachers, each a kind.

  Args:
    release: with the labels that are used.
    of_kinds: the same rows with each teacher's outputs.
  """
  splits, reports = {}, {}
  for split, rows in release.splits.items():
    texts = [[row.rationale for row in o.splits[split]] for o in of_kinds]
    splits[split] = tuple(
      dataclasses.replace(row, rationale=first, more=tuple(more))
      for row, (first, *more) in zip(
        rows, zip(*texts, strict=True), strict=True
      )
    )
    first, *more = (o.reports[split].empty_rationales for o in of_kinds)
    reports[split] = dataclasses.replace(
      release.reports[split], empty_rationales=first, empty_more=tuple(more)
    )
  return records.Release(splits, reports, release.places)


def inspect(
  experiment: experiment_lib.Experiment, lengths: Mapping[str, int]
) -> Findings:
  """Inspects everything that an experiment would train and be tested on.

  Args:
    experiment: the method and its data; tokens are its vocabulary's.
    lengths: of `inputs` and `targets`, to which training cuts examples.

  Returns:
    Counts, lengths, faults and examples.

  Raises:
    DataError: a file is missing or malformed.
    errors.UserError: the vocabulary cannot be trained with.
  """
  data.check_vocabulary(experiment.used_vocabulary, None, 'The vocabulary')
  release = read(experiment)
  rows_of = drawn(experiment, release)
  overlaps = {}
  for one, other in itertools.combinations(rows_of, 2):
    overlaps[one, other] = shared_inputs(rows_of[one][0], rows_of[other][0])
  train = rows_of['train'][0]
  lengths_of_units = units(experiment, train)
  packed, shapes = None, []
  if lengths_of_units is not None:
    packed = row_shapes.fill(
      lengths_of_units, (lengths['inputs'], lengths['targets'])
    )
    shapes = [row_shapes.best(lengths_of_units, each) for each in ROW_LENGTHS]
  return Findings(
    released=release.reports,
    splits={
      # Evaluation cuts nothing.
      split: _split(
        experiment, split, rows, where, {} if split == 'test' else lengths
      )
      for split, (rows, where) in rows_of.items()
    },
    overlaps=overlaps,
    examples=_examples(experiment, train, lengths),
    packed=packed,
    shapes=shapes,
    lengths=lengths,
    cuts=cuts(experiment, train, lengths),
    unknown=unknown_text.count(
      experiment, {split: rows for split, (rows, _) in rows_of.items()}
    ),
  )


def drawn(
  experiment: experiment_lib.Experiment, release: records.Release
) -> dict[str, tuple[list[records.Record], places.Places]]:
  """Returns rows and places of each split, as the sources draw them.

  Args:
    experiment: whose rows.
    release: what `read` returns.
  """
  sizes = {split: len(rows) for split, rows in release.splits.items()}
  result = {}
  for split in sources.SPLITS:
    released, indices = sources.draw_rows(
      sizes, split, experiment.fraction, experiment.draw_seed
    )
    rows, where = release.splits[released], release.places[released]
    result[split] = [rows[i] for i in indices], where.take(indices)
  return result


def shared_inputs(
  one: Sequence[records.Record], other: Sequence[records.Record]
) -> int:
  """Returns how many rows of `other` have an input that `one` has too."""
  known = {row.input for row in one}
  return sum(row.input in known for row in other)


def _split(
  experiment: experiment_lib.Experiment,
  name: str,
  rows: list[records.Record],
  where: places.Places,
  lengths: Mapping[str, int],
) -> Split:
  labels = collections.Counter(row.label for row in rows if row.label)
  column_lengths = {}
  of_kinds = {kind.column: 'targets' for kind in experiment.kinds}
  for column, side in (SIDES | of_kinds).items():
    filled = [row for row in rows if row.column(column)]
    column_lengths[column] = _length(
      (_text(experiment, row, column) for row in filled),
      lengths.get(side),
      experiment.used_vocabulary,
      progress.Progress(f'Counting tokens, {name}, {column}', len(filled)),
    )
  own = isinstance(experiment.rows, own_rows.OwnData)
  return Split(
    report=records.report_on(tuple(rows), experiment.by_value),
    labels=tuple(labels.most_common()),
    lengths=column_lengths,
    faults=_faults(experiment, rows, where, own),
  )


def _text(
  experiment: experiment_lib.Experiment, row: records.Record, column: str
) -> str:
  """Returns what training makes of a column, the prefix with it."""
  if column == 'input':
    has_prefix = experiment.method == 'dss'
    return preprocessors.LABEL_PREFIX * has_prefix + row.input
  # The longest of several rationales: each of them may be drawn.
  return str(lengths_lib.longest_rationale(row.column(column)))


def _length(
  texts: Iterable[str],
  limit: int | None,
  vocabulary: seqio.Vocabulary,
  report: progress.Progress,
) -> Length:
  found = array.array('l')
  for text in texts:
    parts = text.split(row_formats.NLI_SEPARATOR)
    found.append(sum(len(vocabulary.encode(part)) + 1 for part in parts))
    report.at(len(found))
    report.row()
  report.done()
  counts = np.array(found, np.int64)
  beyond = np.maximum(counts - limit, 0) if limit else np.zeros_like(counts)
  percentiles = np.percentile(counts if len(counts) else [0], PERCENTILES)
  return Length(
    percentiles=tuple(round(value) for value in percentiles.tolist()),
    limit=limit,
    cut_rows=int((beyond > 0).sum()),
    cut_tokens=int(beyond.sum()),
    tokens=int(counts.sum()),
  )


def _faults(
  experiment: experiment_lib.Experiment,
  rows: list[records.Record],
  where: places.Places,
  own: bool,
) -> dict[str, places.Places]:
  """Returns the places of rows that lack something or repeat an input."""
  seen: set[str] = set()
  faults: dict[str, array.array] = collections.defaultdict(
    lambda: array.array('l')
  )
  for place, row in enumerate(rows):
    if not row.label:
      faults['no label'].append(place)
    for kind in experiment.kinds:
      if not row.column(kind.column):
        faults[f'no {kind.title}'].append(place)
    if not row.teacher_label and not own:
      faults['no teacher label'].append(place)
    if row.input in seen:
      faults['input of an earlier row'].append(place)
    seen.add(row.input)
  return {kind: where.take(found) for kind, found in faults.items()}


def _examples(
  experiment: experiment_lib.Experiment,
  rows: list[records.Record],
  lengths: Mapping[str, int],
) -> dict[str, list[Example]]:
  """Tokenizes the first rows with each task's own preprocessors."""
  result = {}
  for name, _ in registration.train_tasks(experiment):
    task = seqio.TaskRegistry.get(name)
    first = []
    for row in filled(task, rows)[:EXAMPLES]:
      rationale, *more = (
        text.split(own_rows.SEPARATOR)[0] for text in (row.rationale, *row.more)
      )
      first.append(
        dataclasses.replace(row, rationale=rationale, more=tuple(more))
      )
    tokenized = lengths_lib.tokenized(task, _columns(first), lengths)
    result[name] = [_example(task, example) for example in tokenized]
  return result


def filled(
  task: seqio.Task, rows: list[records.Record]
) -> list[records.Record]:
  """Returns the rows that a task does not leave out.

  Args:
    task: to train on.
    rows: of a split.
  """
  needs = task.source.draw.needs
  return [row for row in rows if all(row.column(need) for need in needs)]


def _columns(rows: Sequence[records.Record]) -> dict[str, list[str]]:
  names = list(rows[0].columns()) if rows else tfds_builders.COLUMNS
  return {column: [row.column(column) for row in rows] for column in names}


def cuts(
  experiment: experiment_lib.Experiment,
  rows: list[records.Record],
  lengths: Mapping[str, int],
) -> list[lengths_lib.Cut]:
  """Returns what the examples of each task lose.

  Args:
    experiment: what is trained on.
    rows: to train on.
    lengths: of `inputs` and `targets`.
  """
  result = []
  for name, _ in registration.train_tasks(experiment):
    task = seqio.TaskRegistry.get(name)
    columns = _columns(filled(task, rows))
    result.append(lengths_lib.cut(task, columns, lengths))
  return result


def units(
  experiment: experiment_lib.Experiment, rows: list[records.Record]
) -> row_shapes.Lengths | None:
  """Draws the lengths of examples that training would pack, of all tasks.

  Args:
    experiment: what is trained on.
    rows: to train on.

  Returns:
    None if no task has an example.
  """
  rng = np.random.default_rng(0)
  counted, rates = [], []
  for name, rate in registration.train_tasks(experiment):
    task = seqio.TaskRegistry.get(name)
    kept = filled(task, rows)
    if not kept:
      continue
    chosen = [kept[i] for i in rng.permutation(len(kept))[:_COUNTED]]
    sizes = lengths_lib.of_task(task, _columns(chosen))
    counted.append(np.stack(sizes, 1))
    rates.append(rate)
  if not counted:
    return None
  tasks = rng.choice(len(counted), _PACKED, p=np.array(rates) / sum(rates))
  pairs = np.stack([rng.choice(counted[task]) for task in tasks])
  return row_shapes.Lengths(pairs[:, 0], pairs[:, 1])


def _example(task: seqio.Task, example: Mapping[str, np.ndarray]) -> Example:
  tokens, texts = {}, {}
  for name, feature in task.output_features.items():
    if feature.rank and len(example[name]):
      ids = [int(token) for token in example[name]]
      tokens[name] = tuple(ids)
      texts[name] = feature.vocabulary.decode(ids)
  return Example(tokens, texts)
