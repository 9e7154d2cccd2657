"""What a run can be asked before it trains: rows, cuts, steps, memory."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from dss_jax import errors, mixtures, run_config
from dss_jax.commands import inspection, unknown_text
from dss_jax.data import records
from dss_jax.pipeline import experiment as experiment_lib
from dss_jax.pipeline import lengths as lengths_lib
from dss_jax.plan import counting, hardware, program
from t5x import data, gin_utils

_GIB = hardware.GIB
_SPLITS = ('train', 'validation', 'test')


@dataclasses.dataclass(frozen=True)
class Findings:
  """What was found out about a run.

  Attributes:
    facts: what it will do, as pairs of a name and a text.
    warnings: what one may want to mend.
  """

  facts: tuple[tuple[str, str], ...]
  warnings: tuple[str, ...]


def check(
  gin_files: Sequence[str], bindings: Sequence[str] = (), more: str = ''
) -> Findings:
  """Checks everything of a run that needs no training.

  Prepares the data, as the run would.

  Args:
    gin_files: of the run.
    bindings: of the run.
    more: lines of a further gin file, after these.

  Raises:
    DataError: the run would be refused.
  """
  with run_config.configured(gin_files, bindings, more) as bound:
    experiment = run_config.macro('EXPERIMENT')
    if not isinstance(experiment, experiment_lib.Experiment):
      raise errors.DataError(
        f'the macro EXPERIMENT is {experiment!r}: expected that of'
        ' gin/dss.gin. Give an experiment of this method.'
      )
    gin_utils.check_values()
    run_config.macro('SCHEDULE')  # Checks steps and warm-up.
    data.check_vocabulary(experiment.used_vocabulary, None, 'The vocabulary')
    lengths = run_config.macro('TASK_FEATURE_LENGTHS')
    description = mixtures.describe(experiment)
    facts = [
      ('rows', _rows(description)),
      ('left out', _left_out(description)),
      *[
        (f'without {kind}', _rows_of(by_split))
        for kind, by_split in description.without.items()
      ],
    ]
    cut = lengths_lib.run_warning(experiment, lengths)
    facts.append(
      ('cut', 'see below' if cut else 'nothing at ' + _shape(lengths))
    )
    texts, labels = _texts(experiment)
    facts += labels
    rows, of_step = _step(experiment)
    facts += of_step
    facts.append(('memory', _memory(bound, lengths, rows)))
    warnings = [*([cut] if cut else []), *texts]
    return Findings(tuple(facts), tuple(warnings))


def _rows(description: mixtures.Description) -> str:
  return _rows_of(description.rows)


def _rows_of(by_split: Mapping[str, int]) -> str:
  return ', '.join(
    f'{split} {by_split[split]:,}' for split in _SPLITS if split in by_split
  )


def _left_out(description: mixtures.Description) -> str:
  parts = [
    f'{count:,} {split} rows of {task}'
    for task, by_split in description.left_out.items()
    for split, count in by_split.items()
    if count
  ]
  if not parts:
    return 'nothing'
  return f'{", ".join(parts)}: a label or a rationale is blank'


def _shape(lengths: Mapping[str, int]) -> str:
  return f'{lengths["inputs"]} input and {lengths["targets"]} target tokens'


def _texts(
  experiment: experiment_lib.Experiment,
) -> tuple[list[str], list[tuple[str, str]]]:
  """Returns warnings about texts, and what their labels are."""
  if experiment.rows == 'release':
    return [], []  # In an archive that only the builders read.
  release = inspection.read(experiment)
  rows: dict[str, Sequence[records.Record]] = {
    split: found
    for split, (found, _) in inspection.drawn(experiment, release).items()
  }
  found = unknown_text.count(experiment, rows)
  warnings = list(unknown_text.lines(found))
  for split in ('validation', 'test'):
    count = inspection.shared_inputs(rows['train'], rows[split])
    if count:
      warnings.append(f'{count:,} {split} rows have an input of a train row.')
  labels = {row.label for row in rows['train'] if row.label}
  strange = any(
    part.unknown.rows or part.dropped.rows for part in found.columns.values()
  )
  return warnings, [
    ('labels', f'{len(labels):,} different ones'),
    ('characters', 'see below' if strange else 'all are in the vocabulary'),
  ]


def _step(
  experiment: experiment_lib.Experiment,
) -> tuple[int, list[tuple[str, str]]]:
  """Returns the rows of a step, and what is said of steps."""
  step = run_config.macro('STEP')
  steps = run_config.macro('TRAIN_STEPS')
  periods = (
    f'; evaluation each {run_config.macro("EVAL_PERIOD"):,},'
    f' saved each {run_config.macro("SAVE_PERIOD"):,}'
  )
  if step.labels_per_step is None:
    return step.batch_size, [
      ('a step', f'{step.batch_size} rows'),
      ('steps', f'{steps:,}{periods}'),
    ]
  layout = step.layout()
  kind = 'targets' if experiment.method == 'single_task' else 'label examples'
  with_them = ', with their rationales,' if experiment.method == 'dss' else ''
  encoder, decoder = (f'{100 * part:.0f}%' for part in layout.fill)
  length, targets = layout.row_shape
  passes = steps * layout.labels / max(layout.examples, 1)
  return layout.rows, [
    (
      'a step',
      f'{layout.labels} {kind}{with_them} in {layout.rows} rows of {length}'
      f' input and {targets} target tokens, {encoder} and {decoder} full',
    ),
    (
      'steps',
      f'{steps:,}: {passes:.3g} passes over {layout.examples:,}{periods}',
    ),
  ]


def _memory(
  bound: Mapping[str, Any], lengths: Mapping[str, int], rows: int
) -> str:
  """Returns what a device would hold, by the arithmetic of `dss plan`."""
  model = run_config.resolve(bound, 'model')
  try:
    sizes = program.sizes(model, lengths)
  except errors.DataError:
    return 'unknown, since the network is none of T5'
  config = model.module.config
  devices = jax.devices()
  kind = devices[0].device_kind
  limit = (devices[0].memory_stats() or {}).get('bytes_limit', 0)
  chip = hardware.Chip(kind, limit, 1.0, 1.0)
  workload = counting.Workload(
    sizes, hardware.Topology(kind, chip, (len(devices),))
  )
  held = dict(
    workload.memory(
      counting.Candidate(
        partitions=run_config.macro_or('NUM_PARTITIONS', 1),
        parameter_dims=1,
        remat=config.remat_policy,
        microbatches=run_config.macro_or('NUM_MICROBATCHES', None) or 1,
        rows=rows,
      )
    )
  )
  # The arithmetic counts values of two bytes.
  wide = jax.numpy.dtype(config.dtype).itemsize / 2
  for name in ('activations', 'working'):
    held[name] *= wide
  total = sum(held.values())
  parts = ', '.join(f'{name} {_size(size)}' for name, size in held.items())
  of = f' of {_size(limit)}' if limit else ''
  number = len(devices)
  return (
    f'about {_size(total)}{of} on each of {number} {kind} device'
    f'{"s" * (number > 1)}: {parts}'
  )


def _size(count: float) -> str:
  if count >= _GIB:
    return f'{count / _GIB:.1f} GiB'
  return f'{count / 2**20:.1f} MiB'
