"""Labels, probabilities, rationales and scores of texts."""

import dataclasses
import functools
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

import numpy as np

from dss_jax import errors
from dss_jax.pipeline import methods
from dss_jax.pipeline.scoring import answers, intervals, metrics, spelling
from dss_jax.student import batches, inputs
from dss_jax.student import usage as usage_lib
from t5x.inference import results

if TYPE_CHECKING:
  from t5x import models

# A text, a number, or a row with the columns of the training's files.
Text = str | float | Mapping[str, Any]


class Answer(NamedTuple):
  """A label, and how probable each class is.

  Attributes:
    label: what the student writes, as `predict` returns it.
    probabilities: class to a number from 0 to 1; they add up to 1.
  """

  label: str
  probabilities: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Score:
  """How many answers are right.

  Attributes:
    accuracy: the part of the answers that is right, from 0 to 1.
    low: lower end of its 95% interval, by Wilson's score.
    high: upper end.
    n: number of texts.
  """

  accuracy: float
  low: float
  high: float
  n: int

  def __str__(self) -> str:
    """The score in words: `84.0% right (95%: 80.1 to 87.3%) of 400`."""
    low, high = 100 * self.low, 100 * self.high
    return (
      f'{100 * self.accuracy:.1f}% right (95%: {low:.1f} to {high:.1f}%)'
      f' of {self.n:,}'
    )


class Replies(NamedTuple):
  """What a student wrote.

  Attributes:
    texts: its answers, whole.
    cut: how many inputs were longer than it reads.
  """

  texts: list[str]
  cut: int


class Student:
  """A finished student. `dss_jax.load` makes one.

  Texts are answered in batches. For each of a few lengths and numbers of texts
  a program is compiled, when it is first needed, and kept; so the first calls
  take longer, and memory does not grow with the calls. Any thread may call;
  calls of several take turns.

  A text is read as in training: without the blanks around it, with the prefix
  of its task, and cut to as many tokens. In place of a text, a row is accepted:
  a mapping with the column that the training's file had, such as
  `{'ticket': 'The printer jams.'}`, or with the columns of a published data
  set, such as `question` and `choices`.
  """

  def __init__(
    self,
    model: 'models.EncoderDecoderModel',
    usage: usage_lib.Usage,
    checkpoint: str,
    decode_options: Mapping[str, Any] | None = None,
  ):
    """Restores the weights; `dss_jax.load` finds all of these.

    Args:
      model: the student's, without weights.
      usage: how it is asked.
      checkpoint: the folder of the weights.
      decode_options: for the model's `decode_fn`.
    """
    self.model = model
    self.usage = usage
    self.checkpoint = checkpoint
    self.decode_options = dict(decode_options or {})
    self._vocabulary = model.output_vocabulary
    self._tokenizer = inputs.Tokenizer(usage, model.input_vocabulary)
    self._targets = inputs.Tokenizer(usage, model.output_vocabulary)
    self._answers = answers.Answers(
      self._vocabulary, usage.classes, self._in_single_targets
    )
    self.batches = batches.Batches(
      model, usage, checkpoint, self.decode_options
    )

  def __repr__(self) -> str:
    return (
      f'<Student {self.checkpoint!r}, method {self.method!r}, classes'
      f' {self.classes}>'
    )

  @property
  def method(self) -> str:
    """How it was trained: 'dss', 'finetune' or 'single_task'."""
    return self.usage.method

  @property
  def classes(self) -> tuple[str, ...] | None:
    """The possible labels, where they are few and known; else None.

    They come from the run's CLASSES, or are the labels that its evaluation
    scored one by one, or those that `dss_jax.load` was given.
    """
    return self.usage.classes

  @overload
  def predict(
    self, texts: Iterable[Text], probabilities: Literal[False] = False
  ) -> list[str]: ...

  @overload
  def predict(
    self, texts: Iterable[Text], probabilities: Literal[True]
  ) -> list[Answer]: ...

  def predict(
    self, texts: Iterable[Text], probabilities: bool = False
  ) -> list[str] | list[Answer]:
    """Returns the label of each text, in order.

    >>> student.predict(['The printer jams.'])  # doctest: +SKIP
    ['hardware']

    Args:
      texts: a list, a column of a table, or rows.
      probabilities: whether to return pairs `(label, probabilities)`. The
        probability of a class is what the model gives to its tokens and the end
        token, divided by the sum over all classes. It says how the model
        weighs the classes against each other; the label is what it writes,
        token by token, which may be no class.

    Returns:
      Labels; those that are a class in the spelling of `classes`. A student of
      'single_task' that states none has ''.

    Raises:
      DataError: a text is empty, or there are no classes to weigh.
    """
    known = self._texts(texts)
    labels = [self.label_of(reply) for reply in self._warned(known).texts]
    if not probabilities:
      return labels
    weighed = self.probabilities(known)
    return [Answer(*pair) for pair in zip(labels, weighed, strict=True)]

  @property
  def kinds(self) -> tuple[str, ...]:
    """The kinds of rationales that it gives; () where they have no names."""
    if not self.usage.explains:
      return ()
    return tuple(name for name, _ in self.usage.kinds if name)

  def explain(
    self, texts: Iterable[Text], kind: str | None = None
  ) -> list[str]:
    """Returns the rationale of each text, in order.

    >>> student.explain(['The printer jams.'])  # doctest: +SKIP
    ['The device itself does not work, so it is a matter of hardware.']

    Args:
      texts: as for `predict`.
      kind: of the rationales, one of `kinds`; None for the first.

    Raises:
      DataError: a text is empty, or the student gives no such rationales.
    """
    self.check_explains(kind)
    known = self._texts(texts)
    replies = self._warned(known, explain=True, kind=kind).texts
    return [self.rationale_of(reply) for reply in replies]

  def score(self, texts: Iterable[Text], labels: Iterable[Any]) -> Score:
    """Returns how many labels are right, with its interval.

    Labels are compared as in the run's own evaluation: as the vocabulary spells
    them, and equations by their value.

    >>> print(student.score(tickets, labels))  # doctest: +SKIP
    84.0% right (95%: 80.1 to 87.3%) of 400

    Args:
      texts: as for `predict`.
      labels: the gold label of each text.

    Raises:
      DataError: a text or label is empty, or there are not as many of both.
    """
    known = self._texts(texts)
    gold = [
      inputs.text_of(label, self.usage, f'labels[{i}]')
      for i, label in enumerate(inputs.checked(labels, 'labels'))
    ]
    if len(known) != len(gold):
      raise errors.DataError(
        f'score: expected a label for each of {len(known)} texts, found'
        f' {len(gold)}.'
      )
    pairs = zip(gold, self._warned(known).texts, strict=True)
    return self.scored(gold, [self._compared(*pair) for pair in pairs])

  # ---- For the command, which asks many rows in parts -----------------------

  def ask(
    self,
    texts: Sequence[str],
    explain: bool = False,
    kind: str | None = None,
  ) -> Replies:
    """Returns what the student writes, whole.

    Args:
      texts: not empty.
      explain: whether to ask for rationales, which 'dss' alone does apart.
      kind: of the rationales; None for the first.
    """
    apart = explain and self.method == 'dss'
    prefix = self.usage.prefix_of(kind) if apart else None
    tokens, cut = self._tokenizer.inputs(texts, prefix)
    written = self.batches.predict(tokens)
    decoded = [results.decode(reply, self._vocabulary) for reply in written]
    return Replies(decoded, cut)

  def label_of(self, reply: str) -> str:
    """Returns the label in what the student wrote for `predict`."""
    label = self._answers(reply)
    return self._class_of.get(label, label)

  def rationale_of(self, reply: str) -> str:
    """Returns the rationale in what the student wrote for `explain`."""
    if self._in_single_targets:
      before, found, _ = reply.rpartition(self._phrase)
      reply = before if found else reply
    return reply.strip()

  def probabilities(self, texts: Sequence[str]) -> list[dict[str, float]]:
    """Returns each class's probability for each text; see `predict`.

    Args:
      texts: not empty.

    Raises:
      DataError: there are no classes to weigh.
    """
    classes = self.weighed_classes()
    tokens, _ = self._tokenizer.inputs(texts)
    targets = [self._targets.target(name) for name in classes]
    scores = self.batches.score(
      [row for row in tokens for _ in targets], targets * len(tokens)
    ).reshape(len(tokens), len(targets))
    weights = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-1e300))
    weights /= weights.sum(axis=1, keepdims=True)
    return [dict(zip(classes, map(float, row), strict=True)) for row in weights]

  def weighed_classes(self) -> tuple[str, ...]:
    """Returns the classes that have probabilities.

    Raises:
      DataError: there are none.
    """
    if self._in_single_targets:
      raise errors.DataError(
        "A student of 'single_task' states its label after a rationale: its"
        ' classes have no probabilities apart from one. Ask for labels alone.'
      )
    if not self.classes:
      raise errors.DataError(
        f'{self.checkpoint}: expected classes to weigh, found none: neither the'
        ' configuration names any, nor were they found few by the evaluation.'
        " Name them: dss_jax.load(…, classes=['yes', 'no'])."
      )
    return self.classes

  def check_explains(self, kind: str | None = None) -> None:
    """Raises a DataError unless the student gives rationales of a kind.

    Args:
      kind: its name; None for the first.
    """
    if not self.usage.explains:
      raise errors.DataError(
        f'{self.checkpoint}: expected a student that was trained on rationales'
        " (METHOD 'dss' or 'single_task'), found one that gives labels alone."
        ' Ask for labels.'
      )
    self.usage.prefix_of(kind)

  def scored(self, gold: Sequence[str], found: Sequence[str]) -> Score:
    """Returns the score of labels.

    Args:
      gold: the right ones.
      found: the student's, in the spelling of the gold ones where they agree.
    """
    metric = metrics.for_labels(
      self.usage.by_value, self.classes, self._vocabulary
    )
    percent = metric(gold, found)['accuracy'] if gold else 0.0
    right = round(percent * len(gold) / 100.0)
    low, high = intervals.wilson(right, len(gold))
    return Score(right / max(len(gold), 1), low, high, len(gold))

  # ---- Within ----------------------------------------------------------------

  @property
  def _in_single_targets(self) -> bool:
    return self.method == 'single_task'

  @functools.cached_property
  def _phrase(self) -> str:
    return spelling.spelled(self._vocabulary, methods.ANSWER_PHRASE)

  @functools.cached_property
  def _class_of(self) -> dict[str, str]:
    """What the student writes for a class, to the class."""
    return {
      spelling.spelled(self._vocabulary, name): name
      for name in self.classes or ()
    }

  def _texts(self, texts: Any) -> list[str]:
    return [
      inputs.text_of(text, self.usage, f'texts[{i}]')
      for i, text in enumerate(inputs.checked(texts))
    ]

  def _warned(
    self,
    texts: Sequence[str],
    explain: bool = False,
    kind: str | None = None,
  ) -> Replies:
    """Returns replies to a caller, who is told of texts that were cut."""
    replies = self.ask(texts, explain, kind)
    if replies.cut:
      warnings.warn(
        f'{replies.cut} of {len(texts)} texts have more tokens than the student'
        f' reads ({self.usage.inputs}): the rest of them is not read.',
        stacklevel=3,
      )
    return replies

  def _compared(self, gold: str, reply: str) -> str:
    """Returns a reply's label, as the evaluation compares it with a gold one.

    An answer that is the gold label as the vocabulary spells it counts as it.
    """
    target = gold
    if self._in_single_targets:
      target = f'{methods.ANSWER_PHRASE} {gold}'
    example = {
      'targets': self._targets.target(target),
      'targets_pretokenized': target,
    }
    return self._answers(reply, example)
