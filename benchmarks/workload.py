"""Work of real lengths for the benchmarks, without the data themselves.

`lengths/cqa.json` holds, for 4,096 rows of CommonsenseQA's training file, how
many tokens four texts have, EOS included: the question after `predict: `, the
question after `explain: `, the label, and PaLM's rationale (0 where there is
none). They were counted with a SentencePiece model of 4,000 pieces trained on
the same texts, which gives 16 rows 2,129 tokens, within 1% of T5's vocabulary.
Token ids are drawn at random, since the time of a step doesn't depend on them.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from dss_jax.pipeline import packing

_LENGTHS = pathlib.Path(__file__).with_name('lengths') / 'cqa.json'
_FIRST_ID = 3  # After padding, EOS and UNK.


class Tokens(NamedTuple):
  """Real tokens, as counted without padding."""

  encoder: int
  decoder: int

  @property
  def total(self) -> int:
    """Those of both sides."""
    return self.encoder + self.decoder


def together(counts: Iterable[Tokens]) -> Tokens:
  """Adds counts of tokens."""
  return Tokens(*map(sum, zip(*counts, strict=True)))


@dataclasses.dataclass(frozen=True)
class Example:
  """One row of the data set as tokens."""

  predict: np.ndarray
  explain: np.ndarray
  label: np.ndarray
  rationale: np.ndarray

  @property
  def tokens(self) -> Tokens:
    """Real tokens of both tasks."""
    explain = self.explain.size if self.rationale.size else 0
    return Tokens(
      self.predict.size + explain, self.label.size + self.rationale.size
    )


def examples(vocab_size: int, count: int | None = None) -> list[Example]:
  """Returns rows of real lengths and random tokens, the same on every call."""
  rng = np.random.default_rng(0)
  lengths = json.loads(_LENGTHS.read_text())[:count]

  def tokens(length):
    ids = rng.integers(_FIRST_ID, vocab_size, length, np.int32)
    ids[-1:] = 1  # EOS.
    return ids

  return [Example(*map(tokens, row)) for row in lengths]


def packed_batches(
  rows: list[Example], batch_size: int, row_shape: tuple[int, int]
) -> Iterator[dict[str, np.ndarray]]:
  """Yields batches as the feature converter packs them, in windows of 1024.

  Args:
    rows: examples; both tasks of each are used, as separate segments.
    batch_size: rows of a batch.
    row_shape: (L, T), positions of a packed row.
  """
  segments = []
  for row in rows:
    segments.append((row.predict, row.label, packing.LABEL_TASK))
    if row.rationale.size:
      segments.append((row.explain, row.rationale, packing.RATIONALE_TASK))
  window = 1024
  for start in range(0, len(segments), window):
    batch = packed(segments[start : start + window], row_shape, start)
    full = len(batch['decoder_target_tokens']) // batch_size * batch_size
    for first in range(0, full, batch_size):
      yield {k: v[first : first + batch_size] for k, v in batch.items()}


def packed(
  segments: Sequence[tuple[np.ndarray, np.ndarray, int]],
  row_shape: tuple[int, int],
  seed: int = 0,
) -> dict[str, np.ndarray]:
  """Returns the rows of inputs, targets and tasks that are packed together.

  Args:
    segments: the inputs, targets and task of each.
    row_shape: (L, T), positions of a packed row.
    seed: of the order of the rows.
  """
  inputs, targets, tasks = zip(*segments, strict=True)
  return packing.pack(
    _ragged(inputs),
    _ragged(targets),
    np.array(tasks, np.int32)[:, None],
    row_shape,
    np.random.default_rng(seed),
  )


def real_tokens(batch: dict[str, np.ndarray]) -> Tokens:
  """Counts the positions of a packed batch that are not padding."""
  return Tokens(
    *(int((batch[f'{side}_segment_ids'] > 0).sum()) for side in Tokens._fields)
  )


def _ragged(sequences) -> packing.Ragged:
  lengths = np.array([len(x) for x in sequences])
  starts = np.cumsum(lengths) - lengths
  return packing.Ragged(
    np.concatenate(sequences), starts[:, None], lengths[:, None]
  )
