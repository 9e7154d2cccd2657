"""What training would see of a data set: counts, lengths, faults, examples."""

import collections
import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import seqio
import tensorflow as tf
from jaxtyping import Int64

from dss_jax.data import own_rows, records, row_formats, tfds_builders
from dss_jax.pipeline import experiment as experiment_lib
from dss_jax.pipeline import preprocessors, registration, row_shapes, sources

SPLITS = ('train', 'validation', 'test')
PERCENTILES = (50, 90, 99, 100)
EXAMPLES = 5
# Lengths of packed rows to choose from.
ROW_LENGTHS = (256, 512, 1024)
# Rows of a task whose tokens are counted for that, and examples packed.
_COUNTED = 1024
_PACKED = 2048
# The segments of an example, on both sides of a row.
_SEGMENTS = (
  ('inputs', 'rationale_inputs'),
  ('targets', 'rationale_targets'),
)
# A text's side: `inputs` and `targets` have lengths of their own.
SIDES = {'input': 'inputs', 'label': 'targets', 'rationale': 'targets'}


@dataclasses.dataclass(frozen=True)
class Length:
  """How long the texts of a column are, in tokens with the end token.

  Attributes:
    percentiles: by `PERCENTILES`, the last being the longest.
    limit: the length that texts are cut to.
    cut_rows: how many are longer.
    cut_tokens: how many of all tokens are beyond it.
    tokens: all tokens.
  """

  percentiles: tuple[int, ...]
  limit: int
  cut_rows: int
  cut_tokens: int
  tokens: int


@dataclasses.dataclass(frozen=True)
class Split:
  """What is in a split, as an experiment draws it.

  Attributes:
    report: its counts.
    labels: the most frequent gold labels first, with their numbers.
    lengths: by column, of rows where it is not blank.
    faults: for each kind of fault the places of its rows.
  """

  report: records.Report
  labels: tuple[tuple[str, int], ...]
  lengths: Mapping[str, Length]
  faults: Mapping[str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Example:
  """A tokenised example: the features' tokens, and what they spell."""

  tokens: Mapping[str, tuple[int, ...]]
  texts: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Findings:
  """What `inspect` found.

  Attributes:
    released: what is in the files, before rows are drawn.
    splits: what training sees, by name.
    overlaps: for two splits, how many rows of the second have an input that the
      first has too.
    examples: by task, the first ones of the train split.
    packed: how full packed rows of the lengths asked for would be.
    shapes: the same for the row shapes that suit the train split best, by
      their length; none where there is nothing to pack.
  """

  released: Mapping[str, records.Report]
  splits: Mapping[str, Split]
  overlaps: Mapping[tuple[str, str], int]
  examples: Mapping[str, Sequence[Example]]
  packed: row_shapes.Fill | None
  shapes: Sequence[row_shapes.Fill]


def read(experiment: experiment_lib.Experiment) -> records.Release:
  """Reads an experiment's rows from their files, not from prepared data.

  Args:
    experiment: whose; not the release, which has to be fetched first.

  Raises:
    DataError: a file is missing or malformed.
  """
  rows = experiment.rows
  if isinstance(rows, own_rows.OwnData):
    return own_rows.read(rows, experiment.needs)
  location = tfds_builders.sample_location() if rows == 'sample' else rows
  return records.read(experiment.data_set, location, experiment.used_teacher)


def inspect(
  experiment: experiment_lib.Experiment,
  lengths: Mapping[str, int],
) -> Findings:
  """Looks at everything that an experiment would train and be tested on.

  Args:
    experiment: what is trained on what; tokens are its vocabulary's.
    lengths: of `inputs` and `targets`, to which examples are cut.

  Returns:
    Counts, lengths, faults and examples.

  Raises:
    DataError: a file is missing or malformed.
  """
  release = read(experiment)
  drawn = _drawn(experiment, release)
  findings = {
    split: _split(experiment, rows, places, lengths)
    for split, (rows, places) in drawn.items()
  }
  overlaps = {}
  for i, one in enumerate(drawn):
    known = {row.input for row in drawn[one][0]}
    for other in list(drawn)[i + 1 :]:
      overlaps[one, other] = sum(r.input in known for r in drawn[other][0])
  train = drawn['train'][0]
  units = _units(experiment, train)
  packed, shapes = None, []
  if units is not None:
    packed = row_shapes.fill(units, (lengths['inputs'], lengths['targets']))
    shapes = [row_shapes.best(units, length) for length in ROW_LENGTHS]
  return Findings(
    release.reports,
    findings,
    overlaps,
    _examples(experiment, train, lengths),
    packed,
    shapes,
  )


def _drawn(
  experiment: experiment_lib.Experiment, release: records.Release
) -> dict[str, tuple[list[records.Record], list[str]]]:
  """Returns rows and places of each split, as the sources draw them."""
  sizes = {split: len(rows) for split, rows in release.splits.items()}
  result = {}
  for split in SPLITS:
    released, indices = sources.draw_rows(
      sizes, split, experiment.fraction, experiment.draw_seed
    )
    result[split] = (
      [release.splits[released][i] for i in indices],
      [release.places[released][i] for i in indices],
    )
  return result


def _split(
  experiment: experiment_lib.Experiment,
  rows: list[records.Record],
  places: list[str],
  lengths: Mapping[str, int],
) -> Split:
  own = isinstance(experiment.rows, own_rows.OwnData)
  labels = collections.Counter(row.label for row in rows if row.label)
  return Split(
    report=records.report_on(tuple(rows), experiment.by_value),
    labels=tuple(labels.most_common()),
    lengths={
      column: _length(
        [_text(row, column) for row in rows if getattr(row, column)],
        lengths[side],
        experiment.used_vocabulary,
      )
      for column, side in SIDES.items()
    },
    faults=_faults(rows, places, own),
  )


def _text(row: records.Record, column: str) -> str:
  if column == 'input':
    return preprocessors.LABEL_PREFIX + row.input
  # The longest of several rationales: each of them may be drawn.
  return max(getattr(row, column).split(own_rows.SEPARATOR), key=len)


def _length(
  texts: list[str], limit: int, vocabulary: seqio.Vocabulary
) -> Length:
  counts: Int64[np.ndarray, 'rows'] = np.asarray(
    [
      sum(len(vocabulary.encode(part)) + 1 for part in _parts(text))
      for text in texts
    ],
    np.int64,
  )
  beyond = np.maximum(counts - limit, 0)
  found = (
    np.percentile(counts, PERCENTILES).tolist()
    if len(counts)
    else [0] * len(PERCENTILES)
  )
  return Length(
    percentiles=tuple(round(value) for value in found),
    limit=limit,
    cut_rows=int((beyond > 0).sum()),
    cut_tokens=int(beyond.sum()),
    tokens=int(counts.sum()),
  )


def _parts(text: str) -> list[str]:
  return text.split(row_formats.NLI_SEPARATOR)


def _faults(
  rows: list[records.Record], places: list[str], own: bool
) -> dict[str, tuple[str, ...]]:
  """Returns the places of rows that lack something or come again."""
  seen, found = set(), collections.defaultdict(list)
  for row, place in zip(rows, places, strict=True):
    if not row.label:
      found['no label'].append(place)
    if not row.rationale:
      found['no rationale'].append(place)
    if not row.teacher_label and not own:
      found['no teacher label'].append(place)
    if row.input in seen:
      found['input of an earlier row'].append(place)
    seen.add(row.input)
  return {kind: tuple(where) for kind, where in found.items()}


def _examples(
  experiment: experiment_lib.Experiment,
  rows: list[records.Record],
  lengths: Mapping[str, int],
) -> dict[str, list[Example]]:
  """Tokenises the first rows with each task's own preprocessors."""
  result = {}
  for name, _ in registration.train_tasks(experiment):
    task = seqio.TaskRegistry.get(name)
    first = [
      dataclasses.replace(
        row, rationale=row.rationale.split(own_rows.SEPARATOR)[0]
      )
      for row in _filled(task, rows)[:EXAMPLES]
    ]
    result[name] = [
      _example(task, example) for example in _tokenised(task, first, lengths)
    ]
  return result


def _filled(
  task: seqio.Task, rows: list[records.Record]
) -> list[records.Record]:
  """Leaves out the rows that the task leaves out."""
  needs = task.source.draw.needs
  return [row for row in rows if all(getattr(row, need) for need in needs)]


def _tokenised(
  task: seqio.Task,
  rows: list[records.Record],
  lengths: Mapping[str, int] | None,
) -> Iterator[Mapping[str, np.ndarray]]:
  """Yields the examples that a task makes of rows; None cuts nothing."""
  columns = {
    column: tf.constant([getattr(row, column) for row in rows], tf.string)
    for column in tfds_builders.COLUMNS
  }
  dataset = tf.data.Dataset.from_tensor_slices(columns)
  dataset = task.preprocess_precache(dataset)
  dataset = task.preprocess_postcache(dataset, sequence_length=lengths, seed=0)
  return dataset.as_numpy_iterator()


def _units(
  experiment: experiment_lib.Experiment, rows: list[records.Record]
) -> row_shapes.Lengths | None:
  """Draws what training would pack: lengths of examples of all its tasks."""
  rng = np.random.default_rng(0)
  counted, rates = [], []
  for name, rate in registration.train_tasks(experiment):
    task = seqio.TaskRegistry.get(name)
    filled = _filled(task, rows)
    if not filled:
      continue
    chosen = rng.permutation(len(filled))[:_COUNTED]
    sides = [
      [name for name in side if name in task.output_features]
      for side in _SEGMENTS
    ]
    counted.append(
      np.array(
        [
          [[len(example[name]) for name in side] for side in sides]
          for example in _tokenised(task, [filled[i] for i in chosen], None)
        ]
      )
    )
    rates.append(rate)
  if not counted:
    return None
  drawn = rng.choice(len(counted), _PACKED, p=np.array(rates) / sum(rates))
  units = np.stack([rng.choice(counted[task]) for task in drawn])
  return row_shapes.Lengths(units[:, 0], units[:, 1])


def _example(task: seqio.Task, example: Mapping[str, np.ndarray]) -> Example:
  tokens = {
    name: tuple(int(t) for t in example[name])
    for name, feature in task.output_features.items()
    if feature.rank and len(example[name])
  }
  texts = {
    name: task.output_features[name].vocabulary.decode(list(ids))
    for name, ids in tokens.items()
  }
  return Example(tokens, texts)
