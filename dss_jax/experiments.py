"""What a run trains on: options, names, and the SeqIO tasks behind them.

The naming rule stands in `dss_jax.mixtures`, which is also where the entry
points for gin files are.
"""

import dataclasses
import hashlib
import numbers
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import seqio
import tensorflow as tf

from dss_jax import builders, errors, metrics, records, sources
from dss_jax import preprocessors as prep
from dss_jax import splits as splits_lib

METHODS = ('dss', 'finetune', 'single_task')
LABELS = ('gold', 'teacher')
EVAL_SPLIT = 'eval'
EVALUATED = ('validation', 'test')


def sample_vocabulary() -> seqio.SentencePieceVocabulary:
  """Returns the vocabulary of the packaged sample; its file is read later."""
  return seqio.SentencePieceVocabulary(
    os.path.join(
      builders.sample_location(), 'vocabulary', 'sentencepiece.model'
    )
  )


def _fingerprint(vocabulary: seqio.Vocabulary) -> str:
  """Returns 8 digits that stand for a vocabulary's kind and content."""
  kind = type(vocabulary).__qualname__
  content = getattr(vocabulary, 'sp_model', None)
  if content is None:
    content = b''
  text = f'{kind} {vocabulary.vocab_size} {vocabulary.extra_ids} '
  return hashlib.sha256(text.encode() + content).hexdigest()[:8]


def _number(value: float) -> str:
  """Writes a number with characters that a task's name may have."""
  return repr(float(value)).replace('-', 'm').replace('+', '')


def _choose(option: str, value: Any, known: Sequence[str]) -> None:
  if value not in known:
    raise errors.DataError(
      f'{option} is {value!r}: expected one of {", ".join(known)}.'
      f'{errors.did_you_mean(value, known)}'
    )


@dataclasses.dataclass(frozen=True)
class Experiment:
  """What a run trains on: it gives the names, and registers what they mean.

  Attributes:
    data_set: 'cqa' or 'svamp'.
    data: 'sample', 'release', or the path of a folder or zip in the published
      layout.
    method: 'dss' (label task and rationale task), 'finetune' (label only, no
      prefix) or 'single_task' (rationale and label in one target).
    labels: 'gold' or 'teacher': which labels to train on. Evaluation is always
      against gold labels.
    teacher: whose rationales and labels: 'palm', 'gpt_neox', or the folder of
      another teacher's outputs.
    fraction: the part of the released train rows to use, in (0, 1].
    seed: of the draw of that part. None, for runs without a seed, counts as 0.
    rationale_rate: how often the rationale task is drawn for one draw of the
      label task; without effect where `paired`.
    paired: for 'dss', whether a row's two tasks come in one example.
    shuffle_rationales: whether train rationales are swapped between rows with
      `seed`, a control that keeps everything else.
    vocabulary: of inputs and targets; None for the packaged sample's.
  """

  data_set: str
  data: str = 'sample'
  method: str = 'dss'
  labels: str = 'gold'
  teacher: str = 'palm'
  fraction: float = 1.0
  seed: int | None = 0
  rationale_rate: float = 1.0
  paired: bool = False
  shuffle_rationales: bool = False
  vocabulary: seqio.Vocabulary | None = None

  def __post_init__(self):
    """Checks everything that needs no file.

    Raises:
      DataError: an option has a value that it cannot have.
    """
    _choose('The data set', self.data_set, builders.DATA_SETS)
    _choose('METHOD', self.method, METHODS)
    _choose('LABELS', self.labels, LABELS)
    if not isinstance(self.data, str | os.PathLike) or not str(self.data):
      raise errors.DataError(
        f"DATA is {self.data!r}: expected 'sample', 'release', or the path of a"
        ' folder or .zip.'
      )
    if not re.fullmatch(r'[A-Za-z0-9][A-Za-z0-9_]*', str(self.teacher)) or (
      self.teacher == 'gold'
    ):
      raise errors.DataError(
        f"TEACHER is {self.teacher!r}: expected 'palm', 'gpt_neox' or the name"
        ' of a folder of outputs, made of letters, digits and _ (not gold).'
      )
    splits_lib.check_fraction(self.fraction)
    whole = isinstance(self.seed, numbers.Integral)
    if self.seed is not None and not (whole and self.seed >= 0):
      raise errors.DataError(
        f'RANDOM_SEED is {self.seed!r}: expected a whole number from 0, or'
        ' None.'
      )
    rate = self.rationale_rate
    real = isinstance(rate, numbers.Real) and not isinstance(rate, bool)
    if not real or not 0.0 <= rate < float('inf'):
      raise errors.DataError(
        f'RATIONALE_RATE is {rate!r}: expected a number from 0, the draws of'
        ' the rationale task for one of the label task.'
      )
    for name in ('paired', 'shuffle_rationales'):
      if not isinstance(getattr(self, name), bool):
        raise errors.DataError(
          f'{name.upper()} is {getattr(self, name)!r}: expected True or False.'
        )

  # What the method uses.

  @property
  def uses_rationales(self) -> bool:
    """Whether the method trains on rationales."""
    return self.method != 'finetune'

  @property
  def uses_teacher(self) -> bool:
    """Whether the teacher's outputs are trained on."""
    return self.uses_rationales or self.labels == 'teacher'

  @property
  def label_column(self) -> str:
    """The column of a row that is the label to train on."""
    return 'label' if self.labels == 'gold' else 'teacher_label'

  @property
  def _pairs(self) -> bool:
    return self.paired and self.method == 'dss'

  @property
  def _shuffles(self) -> bool:
    return self.shuffle_rationales and self.uses_rationales

  # Names.

  @property
  def train_name(self) -> str:
    """The mixture to train on."""
    parts = [self.method, *self._data_part(self.uses_teacher), self.labels]
    if self.uses_teacher:
      parts.append(self.teacher)
    rates = self.method == 'dss' and not self.paired
    if rates and self.rationale_rate != 1.0:
      parts.append(f'r{_number(self.rationale_rate)}')
    if self._pairs:
      parts.append('paired')
    return self._suffixed(parts, self._shuffles)

  def eval_name(self, rationales: bool = True) -> str:
    """Returns the mixture to evaluate.

    Args:
      rationales: whether generated rationales are evaluated too, where the
        method generates them on their own.
    """
    shows = rationales and self.method == 'dss'
    teacher = shows or self.method == 'single_task'
    parts = ['eval', self.method, *self._data_part(teacher)]
    if teacher:
      parts.append(self.teacher)
    return self._suffixed(parts, shuffled=False)

  def _data_part(self, teacher: bool) -> list[str]:
    tag = builders.data_tag(
      self.data_set, str(self.data), self.teacher if teacher else None
    )
    return [self.data_set, tag]

  def _suffixed(
    self, parts: Sequence[str], shuffled: bool, drawn: bool = True
  ) -> str:
    parts = list(parts)
    if shuffled:
      parts.append('shuffled')
    if drawn and self.fraction != 1.0:
      parts.append(f'f{_number(self.fraction)}')
    if self._seed and (shuffled or (drawn and self.fraction != 1.0)):
      parts.append(f's{self._seed}')
    if self.vocabulary is not None:
      mine = _fingerprint(self.vocabulary)
      if mine != _fingerprint(sample_vocabulary()):
        parts.append(f'v{mine}')
    return '_'.join(parts)

  @property
  def _seed(self) -> int:
    return int(self.seed or 0)

  # Registration.

  def check_files(self) -> None:
    """Raises a DataError unless the files are there; for 'release' later."""
    if self.data != 'release':
      builders.content(
        self.data_set,
        str(self.data),
        self.teacher if self.uses_teacher else None,
      )

  def train_tasks(self) -> list[tuple[str, float]]:
    """Registers the tasks to train on; returns their names and rates."""
    label, gold = self.label_column, self.labels == 'gold'
    labels = [self.labels] if gold else [self.labels, self.teacher]
    label_needs = () if gold else (label,)
    teacher = None if gold else self.teacher
    if self.method == 'finetune':
      made = prep.label_task(label, prefix='')
      name = self._task('finetune', labels, teacher, label_needs, made)
      return [(name, 1.0)]
    both = [self.labels, self.teacher]
    if self.method == 'single_task':
      made = prep.single_task(label)
      name = self._task('single', both, self.teacher, label_needs, made)
      return [(name, 1.0)]
    if self.paired:
      name = self._task(
        'paired', both, self.teacher, label_needs, prep.paired_task(label)
      )
      return [(name, 1.0)]
    name = self._task(
      'label', labels, teacher, label_needs, prep.label_task(label)
    )
    return [(name, 1.0), *self._rationale_tasks()]

  def _rationale_tasks(self) -> list[tuple[str, float]]:
    if not self.rationale_rate:
      return []
    name = self._task(
      'rationale',
      [self.teacher],
      self.teacher,
      ('rationale',),
      prep.rationale_task(),
      task_id=prep.RATIONALE_TASK,
    )
    return [(name, float(self.rationale_rate))]

  def eval_tasks(self, rationales: bool = True) -> list[str]:
    """Registers the tasks to evaluate; returns their names.

    Args:
      rationales: as in `eval_name`.
    """
    accuracy = (
      metrics.equation_accuracy
      if self.data_set in records.EQUATION_SETS
      else metrics.label_accuracy
    )
    names = []
    for split in EVALUATED:
      if self.method == 'single_task':
        names.append(
          self._eval_task(
            ['single', self.teacher],
            split,
            prep.single_task('label'),
            accuracy,
            teacher=self.teacher,
            postprocess=answer_only,
          )
        )
        continue
      kind, prefix = 'label', prep.LABEL_PREFIX
      if self.method == 'finetune':
        kind, prefix = 'finetune', ''
      made = prep.label_task('label', prefix)
      names.append(self._eval_task([kind], split, made, accuracy))
      if rationales and self.method == 'dss':
        names.append(
          self._eval_task(
            ['rationale', self.teacher],
            split,
            prep.rationale_task(),
            metrics.rationale_overlap,
            teacher=self.teacher,
            needs=('rationale',),
            task_id=prep.RATIONALE_TASK,
          )
        )
    return names

  def register(self, rationales: bool = True) -> None:
    """Registers tasks and mixtures that are not registered yet.

    Args:
      rationales: as in `eval_name`.
    """
    _add_mixture(self.train_name, self.train_tasks())
    rated = [(name, 1.0) for name in self.eval_tasks(rationales)]
    _add_mixture(self.eval_name(rationales), rated)

  def _source(
    self,
    teacher: str | None,
    needs: tuple[str, ...],
    shuffled: bool = False,
    shown: str | None = None,
  ) -> sources.DssSource:
    """Returns the rows of a task; with `shown`, that split alone as `eval`."""
    fraction = 1.0 if shown == 'test' else float(self.fraction)
    # What has no effect must not tell two sources apart.
    seed = self._seed if shuffled or fraction != 1.0 else 0
    return sources.DssSource(
      self.data_set,
      builders.find_config(self.data_set, str(self.data), teacher),
      sources.Draw(fraction, seed, needs, shuffled),
      None if shown is None else {EVAL_SPLIT: shown},
    )

  def _features(self, *names: str) -> dict[str, seqio.Feature]:
    vocabulary = self.vocabulary or sample_vocabulary()
    return {
      name: seqio.Feature(vocabulary, add_eos=True, dtype=tf.int32)
      for name in names
    }

  def _task(
    self,
    kind: str,
    parts: Sequence[str],
    teacher: str | None,
    needs: tuple[str, ...],
    preprocessor: Callable[..., tf.data.Dataset],
    task_id: int = prep.LABEL_TASK,
  ) -> str:
    """Registers a task to train on; returns its name."""
    shuffled = self._shuffles and kind != 'label'
    begin = [*self._data_part(teacher is not None), kind, *parts]
    name = self._suffixed(begin, shuffled)
    names, last = ['inputs', 'targets'], [prep.add_task_id(task_id)]
    features = {}
    if kind == 'paired':
      names += ['rationale_inputs', 'rationale_targets']
      last = [prep.drop_blank_pair]
    else:
      features['task_id'] = seqio.Feature(
        seqio.PassThroughVocabulary(size=prep.RATIONALE_TASK + 1),
        add_eos=False,
        dtype=tf.int32,
        rank=0,
      )
    _add_task(
      name,
      self._source(teacher, needs, shuffled),
      ' '.join([kind, *parts]),
      {**self._features(*names), **features},
      [preprocessor, seqio.preprocessors.tokenize, prep.append_eos, *last],
    )
    return name

  def _eval_task(
    self,
    parts: Sequence[str],
    split: str,
    preprocessor: Callable[..., tf.data.Dataset],
    metric: Callable[..., Mapping[str, float]],
    teacher: str | None = None,
    needs: tuple[str, ...] = (),
    task_id: int = prep.LABEL_TASK,
    postprocess: Callable[..., str] | None = None,
  ) -> str:
    """Registers the task that shows one split as `eval`; returns its name."""
    begin = [*self._data_part(teacher is not None), *parts, split]
    name = self._suffixed(begin, shuffled=False, drawn=split != 'test')
    _add_task(
      name,
      self._source(teacher, needs, shown=split),
      ' '.join(parts),
      # `task_id` is in the examples, but SeqIO's evaluator takes no feature
      # without a length.
      self._features('inputs', 'targets'),
      [
        preprocessor,
        seqio.preprocessors.tokenize,
        prep.append_eos,
        prep.add_task_id(task_id),
      ],
      metric_fns=[metric],
      postprocess_fn=postprocess or stripped,
    )
    return name


def stripped(text: str, **unused_kwargs) -> str:
  """Returns a target or prediction without the blanks around it."""
  return text.strip()


def answer_only(text: str, **unused_kwargs) -> str:
  """Returns the label in a single-task target or prediction."""
  return prep.answer_of(text)


# What was registered under a name, for telling a repetition from a clash.
_MEANINGS: dict[str, Any] = {}


def _is_new(registry: type, name: str, meaning: Any) -> bool:
  """Says whether a name is still to be registered.

  Raises:
    DataError: it stands for something else already.
  """
  if name not in registry.names():
    _MEANINGS[name] = meaning
    return True
  known = _MEANINGS.get(name, 'a task of another program')
  if known != meaning:
    raise errors.DataError(
      f'The name {name!r} is taken: expected it to be free or to stand for'
      f' {meaning}, found {known}.'
      ' Rename the TEACHER, whose name most likely caused this.'
    )
  return False


def _add_task(
  name: str, source: sources.DssSource, kind: str, *args, **kwargs
) -> None:
  if _is_new(seqio.TaskRegistry, name, (kind, *source.meaning)):
    seqio.TaskRegistry.add(name, source, *args, **kwargs)


def _add_mixture(name: str, tasks: Sequence[tuple[str, float]]) -> None:
  if _is_new(seqio.MixtureRegistry, name, tuple(tasks)):
    seqio.MixtureRegistry.add(name, tasks)
