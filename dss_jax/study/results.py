"""Results of finished runs: one JSON line a run in a study's `results.jsonl`.

`record` reads a run's folder, in which `t5x.train` has left its configuration,
an accuracy for each evaluation, and what the model answered.
"""

import dataclasses
import importlib.metadata
import json
import pathlib
import platform
from collections.abc import Iterable, Mapping

import dss_jax
from dss_jax import errors, neutral
from dss_jax.report import run_files
from t5x import files
from t5x.run import provenance

NAME = 'results.jsonl'
RUNS = 'runs'
PREDICTIONS = 'predictions'


@dataclasses.dataclass(frozen=True)
class Spec:
  """What a run of a study is: a point of its grid, and what that comes to.

  Attributes:
    name: of the run and its folder below OUT/runs.
    data_set: 'cqa', …, 'custom'.
    data: 'sample', 'release' or a path.
    method: 'finetune', 'distill', 'dss', 'single_task' or 'shuffled'.
    labels: 'gold' or 'teacher'.
    teacher: whose rationales and labels; None where the method uses none.
    alpha: weight of the label loss; None where there is no other.
    size: such as 'tiny' or 'base'.
    fraction: the part of the training rows.
    seed: RANDOM_SEED.
    steps: TRAIN_STEPS.
    label_examples: label examples a step; None where steps are counted in rows.
    train_rows: rows that are trained on; None where nobody has counted.
    teacher_accuracy: of the teacher itself, by split, in percent; of the data,
      so it may be there where the method uses no teacher.
    by_value: whether labels are equations, compared by their value.
    kinds: of rationales, such as 'thought+program'; '' for one without a name.
  """

  name: str
  data_set: str
  data: str
  method: str
  labels: str
  teacher: str | None
  alpha: float | None
  size: str
  fraction: float
  seed: int
  steps: int
  label_examples: int | None = None
  train_rows: int | None = None
  teacher_accuracy: Mapping[str, float] = dataclasses.field(
    default_factory=dict
  )
  by_value: bool = False
  kinds: str = ''


@dataclasses.dataclass(frozen=True)
class RunResult:
  """What a finished run has come to.

  Attributes:
    spec: what it is.
    settings: the macros of its configuration, as gin writes them, such as
      {'LEARNING_RATE': '0.002'}; without MODEL_DIR, which is a place.
    parameters: of its model.
    versions: of Python, JAX, Flax and this package, by name.
    commit: of the source tree; None for an installed package.
    device: what it ran on, in words.
    seconds: how long it took, all its starts together.
    rows: number of questions by split.
    last: at its last step.
    best_validation: at the first of the steps with the best accuracy on
      validation; None without that split.
    best_test: likewise on test. Chosen by what it is measured with, so it is
      not comparable with anything but the same choice elsewhere.
    predictions: the file of its answers, relative to the study's folder.
  """

  spec: Spec
  settings: Mapping[str, str]
  parameters: int
  versions: Mapping[str, str]
  commit: str | None
  device: str
  seconds: float
  rows: Mapping[str, int]
  last: run_files.Evaluation
  best_validation: run_files.Evaluation | None
  best_test: run_files.Evaluation
  predictions: str

  @property
  def short_commit(self) -> str:
    """Twelve digits of the commit, and its `+`; `none` for no commit."""
    if self.commit is None:
      return 'none'
    return self.commit[:12] + ('+' if self.commit.endswith('+') else '')

  def to_json(self) -> str:
    """Returns a line for `results.jsonl`, without the end of the line.

    The fields of `spec` stand beside the others, with no level of their own.
    """
    row = dataclasses.asdict(self)
    return json.dumps(row.pop('spec') | row, ensure_ascii=False)

  @classmethod
  def from_json(cls, line: str, place: str) -> 'RunResult':
    """Returns the result that a line holds.

    Args:
      line: from `to_json`.
      place: file and number of the line, for messages.

    Raises:
      DataError: the line is none of ours.
    """
    try:
      row = json.loads(line)
      if '\\ud' in line.lower():
        # Half a pair of surrogates, which no file can hold.
        text = json.dumps(row, ensure_ascii=False)
        row = json.loads(neutral.unicode(text))
      if row['predictions'] != f'{PREDICTIONS}/{row["name"]}.jsonl' or (
        pathlib.PurePath(row['name']).name != row['name']
      ):
        raise ValueError(f'a run {row["name"]!r:.60} in another folder')
      row.setdefault('kinds', '')  # Older ones have none.
      spec = {f.name: row.pop(f.name) for f in dataclasses.fields(Spec)}
      for name in ('last', 'best_validation', 'best_test'):
        row[name] = row[name] and run_files.Evaluation(**row[name])
      return cls(spec=Spec(**spec), **row)
    except (ValueError, TypeError, KeyError) as error:
      raise errors.DataError(
        f'{place}: expected the result of a run as a JSON object, found'
        f' {line[:60]!r} ({error!r}). Remove the line, and the study runs'
        ' again what it stood for.'
      ) from error


def record(
  spec: Spec,
  run_dir: pathlib.Path,
  *,
  seconds: float,
  device: str,
  versions: Mapping[str, str] | None = None,
  commit: str | None = None,
) -> RunResult:
  """Reads the folder of a finished run.

  Args:
    spec: what was run.
    run_dir: its MODEL_DIR.
    seconds: how long it took.
    device: what it ran on, in words.
    versions: where it ran; None if that was in this installation.
    commit: likewise.

  Raises:
    DataError: the folder lacks an evaluation of the last step, or has a file
      that can't be read.
  """
  metrics = run_files.evaluations(run_dir)
  tested = [m for m in metrics if 'test' in m.accuracy]
  if not tested or metrics[-1].step != spec.steps or tested[-1] != metrics[-1]:
    found = f'the last one at {tested[-1].step}' if tested else 'none'
    raise errors.DataError(
      f'{run_dir / "inference_eval"}: expected an evaluation of the labels of'
      f' test at step {spec.steps}, found {found}. Run the study again: it goes'
      " on from the run's checkpoint."
    )
  last = metrics[-1]
  answers = run_files.answer_files(run_dir, 'accuracy', last.step)
  if versions is None:
    versions, commit = installed_versions(), provenance.source_commit()
  settings = run_files.macros(run_dir / 'config.gin')
  settings.pop('MODEL_DIR', None)
  return RunResult(
    spec=spec,
    settings=settings,
    parameters=run_files.parameters(run_dir / 'model-info.txt'),
    versions=versions,
    commit=commit,
    device=device,
    seconds=seconds,
    rows={
      split: run_files.count_lines(path) for split, path in answers.items()
    },
    last=last,
    best_validation=max(
      (m for m in tested if 'validation' in m.accuracy),
      key=lambda m: m.accuracy['validation'],
      default=None,
    ),
    best_test=max(tested, key=lambda m: m.accuracy['test']),
    predictions=f'{PREDICTIONS}/{spec.name}.jsonl',
  )


def installed_versions() -> dict[str, str]:
  """Returns the versions of what a run is computed with, by name."""
  return {
    'dss_jax': dss_jax.__version__,
    'python': platform.python_version(),
    **{name: importlib.metadata.version(name) for name in ('jax', 'flax')},
  }


def read(out_dir: pathlib.Path) -> list[RunResult]:
  """Returns the results of a study, those of a run's last line.

  Args:
    out_dir: the study's folder; without results it has none.

  Raises:
    DataError: a line is none of ours.
  """
  path = out_dir / NAME
  if not path.exists():
    return []
  lines = run_files.read_text(path).split('\n')[:-1]
  found = [
    RunResult.from_json(line, f'{path}, line {number}')
    for number, line in enumerate(lines, 1)
  ]
  return list({result.spec.name: result for result in found}.values())


def write(out_dir: pathlib.Path, found: Iterable[RunResult]) -> None:
  """Replaces a study's `results.jsonl`, at once.

  Args:
    out_dir: the study's folder.
    found: all results, in the order of their lines.
  """
  with files.replacing(out_dir / NAME) as work:
    work.write_text(''.join(f'{result.to_json()}\n' for result in found))
