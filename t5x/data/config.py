"""Dataset configurations: what to read, and whether a model can take it."""

import dataclasses
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import seqio

from t5x import errors
from t5x.data import vocabularies


@dataclasses.dataclass
class DatasetConfig:
  """What to read and in which shape.

  Attributes:
    mixture_or_task_name: a name in SeqIO's registry, or the task or mixture.
    task_feature_lengths: tokens for each feature of the task; None (evaluation
      only) takes the longest example of each feature.
    split: 'train', 'validation', ….
    batch_size: rows of a global batch, over all hosts.
    shuffle: whether to shuffle.
    seed: of shuffling and mixing; None draws one, the same on all hosts.
    use_cached: whether to read SeqIO's offline cache.
    pack: whether several examples share a row.
    use_custom_packing_ops: handed to the feature converter.
    module: a module to import first, which registers the task.
    use_memory_cache: whether evaluation keeps its examples in memory.
    trim_output_features: whether longer features are cut to their length.
    runtime_preprocessors: of Grain tasks, which are not supported.
    num_prefetch_threads: of Grain tasks, which are not supported.
    num_workers: of Grain tasks, which are not supported.
    data_shards: (not in T5X) in how many parts the data is read, for training;
      each part gives an equal share of every batch. A host reads the parts
      that its rows come from, so the batches don't depend on the number of
      hosts. With 1, every host reads all data and keeps its rows of each batch;
      with one part per host, each reads its own part alone.
      None chooses by the files of the data, see `data_parts`.
  """

  mixture_or_task_name: str | seqio.Task | seqio.Mixture
  task_feature_lengths: Mapping[str, int] | None
  split: str
  batch_size: int
  shuffle: bool
  seed: int | None
  use_cached: bool = False
  pack: bool = False
  use_custom_packing_ops: bool = False
  module: str | None = None
  use_memory_cache: bool = True
  trim_output_features: bool = True
  runtime_preprocessors: Sequence[Any] | None = None
  num_prefetch_threads: int | None = None
  num_workers: int | None = 0
  data_shards: int | None = None

  def __post_init__(self) -> None:
    grain = ('runtime_preprocessors', 'num_prefetch_threads', 'num_workers')
    for option in grain:
      if getattr(self, option):
        raise errors.UserError(
          f'DatasetConfig.{option} is an option of Grain tasks, which this'
          ' engine does not read. Leave it at its default.'
        )
    if self.batch_size < 1:
      raise errors.UserError(
        'DatasetConfig.batch_size: expected a positive number of rows, found'
        f' {self.batch_size}.'
      )
    parts = 1 if self.data_shards is None else self.data_shards
    if parts < 1 or self.batch_size % parts:
      raise errors.UserError(
        'DatasetConfig.data_shards: expected a divisor of batch_size'
        f' {self.batch_size}, found {self.data_shards}.'
      )


def mixture_or_task(cfg: DatasetConfig) -> seqio.Task | seqio.Mixture:
  """Returns the task or mixture that a config names.

  Args:
    cfg: the config; `cfg.module` is imported first.

  Returns:
    The registered object.

  Raises:
    errors.UserError: if the registry has no such name.
  """
  if cfg.module:
    _import_module(cfg.module)
  name = cfg.mixture_or_task_name
  if not isinstance(name, str):
    return name
  known = [*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()]
  if name not in known:
    raise errors.UserError(
      f'No task or mixture {name!r} in the SeqIO registry, which holds'
      f' {len(known)} names.{errors.did_you_mean(name, known)} Is the module'
      ' that registers it imported (DatasetConfig.module, or an import in a'
      ' gin file)?'
    )
  return seqio.get_mixture_or_task(name)


def _import_module(name: str) -> None:
  """Imports the module that registers a task."""
  try:
    importlib.import_module(name)
  except ModuleNotFoundError as e:
    # One that the module itself lacks is no mistake in its name.
    if e.name is None or not f'{name}.'.startswith(f'{e.name}.'):
      raise
    hint = '`pip install --no-deps t5` brings it; '
    raise errors.UserError(
      f'DatasetConfig.module: there is no module {name!r} (macro'
      f' MIXTURE_OR_TASK_MODULE): {e.name!r} is not found.'
      f' {hint * (e.name == "t5")}modules are looked for in the working folder,'
      ' in PYTHONPATH and among the installed packages.'
    ) from e


def get_vocabulary(
  cfg: DatasetConfig,
) -> tuple[seqio.Vocabulary, seqio.Vocabulary]:
  """Returns the vocabularies of the inputs and of the targets of a dataset."""
  features = mixture_or_task(cfg).output_features
  if 'targets' not in features:
    raise errors.UserError(
      f'{cfg.mixture_or_task_name!r} has no feature `targets`, but'
      f' {sorted(features)}.'
    )
  targets = features['targets'].vocabulary
  inputs = features['inputs'].vocabulary if 'inputs' in features else targets
  return inputs, targets


class StepLayout(Protocol):
  """What a mixture says that lays out whole steps itself, as its `step`.

  (Not in T5X.) Such a mixture hands out the examples of one step after the
  other, in an order of its own, so that every `rows` rows are a step.
  """

  @property
  def rows(self) -> int:
    """Rows of a step, which have to be those of a batch."""

  @property
  def parts(self) -> int:
    """In how many parts it wants to be read."""

  @property
  def identity(self) -> Mapping[str, Any]:
    """What tells a run on it from others, in place of name and batch size."""


def step_layout(cfg: DatasetConfig) -> StepLayout | None:
  """Returns how a mixture lays out steps, None if it only has examples.

  Args:
    cfg: a dataset config.

  Raises:
    errors.UserError: its steps have other rows than the config's batches.
  """
  step: StepLayout | None = getattr(mixture_or_task(cfg), 'step', None)
  if step is not None and step.rows != cfg.batch_size:
    raise errors.UserError(
      f'DatasetConfig.batch_size is {cfg.batch_size}, but a step of'
      f' {cfg.mixture_or_task_name!r} has {step.rows} rows: expected the same.'
      ' Bind both to the same layout.'
    )
  return step


class ModelWithVocabularies(Protocol):
  """The part of a model that its data has to match."""

  @property
  def input_vocabulary(self) -> seqio.Vocabulary: ...

  @property
  def output_vocabulary(self) -> seqio.Vocabulary: ...


def verify_matching_vocabs(
  cfg: DatasetConfig, model: ModelWithVocabularies
) -> None:
  """Checks that data and model have one vocabulary that the network can take.

  Args:
    cfg: a dataset config.
    model: a model.

  Raises:
    errors.UserError: if a vocabulary of the task is not the model's, has more
      ids than the network has rows, or lacks the engine's special ids.
  """
  inputs, targets = get_vocabulary(cfg)
  features = mixture_or_task(cfg).output_features
  for side, feature, of_model, of_data in (
    ('input', 'inputs', model.input_vocabulary, inputs),
    ('output', 'targets', model.output_vocabulary, targets),
  ):
    if of_model != of_data:
      raise errors.UserError(
        f'The {side} vocabulary of the model is {of_model}, that of'
        f' {cfg.mixture_or_task_name!r} is {of_data}. Give both the same one'
        ' (macro VOCABULARY).'
      )
    vocabularies.check_vocabulary(
      of_data,
      model,
      f'The {side} vocabulary of {cfg.mixture_or_task_name!r}',
      needs_end=feature in features and features[feature].add_eos,
    )


def tasks_with_split(cfg: DatasetConfig) -> list[seqio.Task]:
  """Returns the tasks of a dataset that have its split, perhaps none."""
  tasks = seqio.get_subtasks(mixture_or_task(cfg))
  return [task for task in tasks if cfg.split in task.splits]


def check_split(cfg: DatasetConfig) -> None:
  """Raises UserError unless a task of a dataset has its split."""
  if not tasks_with_split(cfg):
    provider = mixture_or_task(cfg)
    splits = sorted({s for t in seqio.get_subtasks(provider) for s in t.splits})
    raise errors.UserError(
      f'No task of {provider.name!r} has the split {cfg.split!r}. Splits:'
      f' {splits}.{errors.did_you_mean(cfg.split, splits)}'
    )


def check_lengths(
  cfg: DatasetConfig,
  feature_converter_cls: Callable[..., seqio.FeatureConverter],
  longest_by_default: bool = False,
) -> None:
  """Checks the lengths of a `DatasetConfig`.

  Args:
    cfg: the config.
    feature_converter_cls: the model's feature converter.
    longest_by_default: whether a feature without a length takes that of its
      longest example, as in evaluation.

  Raises:
    errors.UserError: a length is missing, or names no feature.
  """
  provider = mixture_or_task(cfg)
  known = provider.output_features
  read = getattr(feature_converter_cls, 'TASK_FEATURES', known)
  lengths = cfg.task_feature_lengths
  where = f'The dataset {provider.name!r} ({cfg.split})'
  if lengths is None:
    if longest_by_default:
      return
    raise errors.UserError(
      f'{where} needs TASK_FEATURE_LENGTHS, for example'
      " {'inputs': 512, 'targets': 128}."
    )
  for name in lengths:
    if name not in known and name not in read:
      raise errors.UserError(
        f'{where}: TASK_FEATURE_LENGTHS names {name!r}, but the features are'
        f' {sorted(known)}.{errors.did_you_mean(name, known)}'
      )
  needed = sorted(name for name in known if name in read)
  missing = [name for name in needed if lengths.get(name) is None]
  if missing and not longest_by_default:
    raise errors.UserError(
      f'{where}: TASK_FEATURE_LENGTHS has no length for'
      f' {", ".join(map(repr, missing))}, found {dict(lengths)}. Give one to'
      f' each of {needed}.'
    )
