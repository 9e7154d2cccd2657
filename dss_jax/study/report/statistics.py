"""Means over seeds, and paired differences of two methods.

Two methods that are trained with the same seeds and answer the same questions
give a table of differences d[s, q], each -1, 0 or 1: whether the other method
is right, minus whether the first is. Another seed would have given another row,
another sample of questions other columns, so the interval of its mean takes
both into account (crossed random effects): both are resampled.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

# Below this, the spread between seeds is not known well enough for a p.
FEWEST_SEEDS = 3
_RESAMPLES = 20_000
_SEED = 0


@dataclasses.dataclass(frozen=True)
class Mean:
  """A mean over seeds.

  Attributes:
    value: the mean.
    error: its standard error; None for one seed.
    count: number of seeds.
  """

  value: float
  error: float | None
  count: int


@dataclasses.dataclass(frozen=True)
class Difference:
  """How much better another method is than the first, in percentage points.

  Attributes:
    value: the mean over seeds and questions.
    low: lower end of the 95% interval; None below `FEWEST_SEEDS` seeds.
    high: upper end.
    p: two-sided, of no difference; None below `FEWEST_SEEDS` seeds.
    seeds: number of seeds that both have.
    questions: number of questions.
  """

  value: float
  low: float | None
  high: float | None
  p: float | None
  seeds: int
  questions: int


def mean(values: Sequence[float]) -> Mean:
  """Returns the mean of one value a seed, with its standard error.

  >>> mean([70.0, 74.0])
  Mean(value=72.0, error=2.0, count=2)

  Args:
    values: at least one.
  """
  error = None
  if len(values) > 1:
    error = float(np.std(values, ddof=1) / np.sqrt(len(values)))
  return Mean(float(np.mean(values)), error, len(values))


def difference(first: np.ndarray, other: np.ndarray) -> Difference:
  """Compares two methods on the same seeds and questions.

  A replicate of the bootstrap draws seeds, then questions: it is the mean plus
  the mean effect of the seeds drawn plus that of the questions drawn. Seeds are
  drawn as weights (Rubin's Bayesian bootstrap), since three of three have only
  ten outcomes. Taken as they are, effects of few seeds vary too little, and
  those of questions hold the noise between seeds a second time, so both are
  brought to the size that has the right variance. As the spread of S seeds is
  itself uncertain, each replicate divides it by √(χ²/(S-1)), with S-1 degrees
  of freedom, as Student's t does.

  Args:
    first: whether the first method is right, [seeds, questions].
    other: whether the other is, in the same order.

  Returns:
    Percentage points. The generator is seeded, so they are always the same.
  """
  table = other.astype(np.float64) - first.astype(np.float64)
  seeds, questions = table.shape
  value = float(table.mean())
  if seeds < FEWEST_SEEDS:
    return Difference(100 * value, None, None, None, seeds, questions)
  rng = np.random.default_rng(_SEED)
  replicates = (
    value
    + _seed_effects(table, rng)
    + _resampled_means(_question_effects(table), rng)
  )
  low, high = np.percentile(replicates, (2.5, 97.5))
  # The replicate that was observed is one of them.
  below = (1 + np.sum(replicates <= 0)) / (1 + _RESAMPLES)
  above = (1 + np.sum(replicates >= 0)) / (1 + _RESAMPLES)
  return Difference(
    100 * value,
    100 * max(float(low), -1.0),
    100 * min(float(high), 1.0),
    min(1.0, 2 * float(min(below, above))),
    seeds,
    questions,
  )


def _seed_effects(table: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Returns the mean effect of the seeds of each replicate, [replicates]."""
  seeds = len(table)
  effects = table.mean(axis=1) - table.mean()
  weights = rng.dirichlet(np.ones(seeds), _RESAMPLES)
  # Weights give the sum of squares / (S (S+1)), the mean of S seeds has the sum
  # of squares / (S (S-1)).
  drawn = weights @ effects * np.sqrt((seeds + 1) / (seeds - 1))
  spread = np.sqrt(rng.chisquare(seeds - 1, _RESAMPLES) / (seeds - 1))
  return drawn / spread


def _question_effects(table: np.ndarray) -> np.ndarray:
  """Returns what each question adds, without the noise between seeds, [Q]."""
  seeds, questions = table.shape
  by_seed = table.mean(axis=1, keepdims=True) - table.mean()
  effects = table.mean(axis=0) - table.mean()
  noise = table - table.mean() - by_seed - effects
  noise_square = np.sum(noise**2) / max((seeds - 1) * (questions - 1), 1)
  effect_square = seeds * np.sum(effects**2) / max(questions - 1, 1)
  if not effect_square:
    return effects
  kept = max(0.0, 1 - noise_square / effect_square)
  return effects * np.sqrt(kept)


def _resampled_means(
  values: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
  """Returns the mean of as many draws from the values, [replicates]."""
  # Questions have few different values: counts of each are enough.
  distinct, counts = np.unique(values, return_counts=True)
  drawn = rng.multinomial(len(values), counts / len(values), _RESAMPLES)
  return drawn @ distinct / len(values)


def holm(ps: Sequence[float]) -> list[float]:
  """Returns p values that hold for all comparisons together, by Holm's rule.

  >>> holm([0.01, 0.04, 0.03])
  [0.03, 0.06, 0.06]

  Args:
    ps: one for each comparison.
  """
  adjusted = [0.0] * len(ps)
  highest = 0.0
  for place, index in enumerate(np.argsort(ps)):
    highest = max(highest, min(1.0, (len(ps) - place) * ps[index]))
    adjusted[index] = highest
  return adjusted
