"""Answers of a student and the labels that they are compared with.

Both sides of a comparison must have gone through the vocabulary: a label's own
spelling, with two blanks or a character that the vocabulary lacks, is nothing
that a student can write. So an answer that is the gold label as a student
writes it counts as the label as the user wrote it.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import seqio

from dss_jax import errors
from dss_jax.pipeline import preprocessors
from dss_jax.pipeline.scoring import spelling


class Answers:
  """A SeqIO postprocessor, which gives labels in the user's spelling."""

  def __init__(
    self,
    vocabulary: seqio.Vocabulary,
    classes: Sequence[str] | None = None,
    in_single_targets: bool = False,
    column: str = 'label',
  ):
    """Takes what a task compares; the vocabulary is read when it is used.

    Args:
      vocabulary: of the targets.
      classes: the possible labels, if they are few.
      in_single_targets: whether a target states the label after a rationale.
      column: of a row that holds the label.
    """
    self.column = column
    self._vocabulary = vocabulary
    self._classes = classes
    self._in_single_targets = in_single_targets

  def __call__(
    self,
    text: str,
    example: Mapping[str, Any] | None = None,
    is_target: bool = False,
  ) -> str:
    """Returns the label in a target or in what a student wrote.

    Args:
      text: the target as the data has it, or a decoded prediction.
      example: the task's, with the tokens that the student is taught.
      is_target: which of them `text` is.
    """
    if is_target:
      return self._gold(text)
    answer = self._answer(text)
    if example is None or 'targets' not in example:
      return answer
    taught = self._answer(
      spelling.decoded(self._vocabulary, example['targets'])
    )
    if not answer or answer != taught:
      return answer
    target = example.get('targets_pretokenized', taught)
    if isinstance(target, bytes):
      target = target.decode()
    return self._gold(target)

  def check(self, labels: Iterable[str], length: int | None) -> None:
    """Raises unless labels can be told apart in what a student writes.

    Args:
      labels: all gold labels.
      length: tokens that targets are cut to; None cuts nothing.

    Raises:
      DataError: they can't; see `spelling.check_labels`.
    """
    labels = list(labels)
    if self._in_single_targets:
      # The label is not cut where the target is.
      length = None
      for label in labels:
        for phrase in (preprocessors.ANSWER_PHRASE, self._phrase):
          if phrase in label:
            raise errors.DataError(
              f'The label {label!r}: expected one without'
              f' {preprocessors.ANSWER_PHRASE!r}, after which single_task has'
              ' its answer. Change the label, or use METHOD = "dss".'
            )
    spelling.check_labels(self._vocabulary, labels, self._classes, length)

  def _gold(self, text: str) -> str:
    if self._in_single_targets:
      return preprocessors.answer_of(text)
    return text.strip()

  def _answer(self, text: str) -> str:
    if self._in_single_targets:
      return preprocessors.answer_of(text, self._phrase)
    return text.strip()

  @functools.cached_property
  def _phrase(self) -> str:
    """The answer phrase, as a student writes it."""
    return spelling.spelled(self._vocabulary, preprocessors.ANSWER_PHRASE)


class Rationales:
  """A SeqIO postprocessor, which gives rationales in a student's spelling."""

  def __init__(self, vocabulary: seqio.Vocabulary):
    """Takes the vocabulary of the targets, which is read when it is used."""
    self._vocabulary = vocabulary

  def __call__(
    self,
    text: str,
    example: Mapping[str, Any] | None = None,
    is_target: bool = False,
  ) -> str:
    """Returns a target or prediction without blanks around it.

    Args:
      text: the target as the data has it, or a decoded prediction.
      example: the task's, with the tokens that the student is taught.
      is_target: which of them `text` is.
    """
    if is_target and example is not None:
      return spelling.decoded(self._vocabulary, example['targets'])
    return text.strip()
