"""Intervals of measured fractions."""

import math
import statistics

# The normal distribution has 95% within so many standard deviations.
_DEVIATIONS = statistics.NormalDist().inv_cdf(0.975)


def wilson(correct: int, total: int) -> tuple[float, float]:
  """Returns a 95% interval of the fraction that is correct, by Wilson's score.

  It holds the fractions that differ from the one found by at most 1.96 of
  *their own* standard deviations. So it says something where all answers are
  right, or none is:

  >>> [round(end, 3) for end in wilson(75, 100)]
  [0.657, 0.825]
  >>> [round(end, 3) for end in wilson(200, 200)]
  [0.981, 1.0]

  Args:
    correct: number of correct answers.
    total: number of all answers.

  Returns:
    Both ends, in [0, 1]; without answers, all of it.
  """
  if not total:
    return 0.0, 1.0
  part, unit = correct / total, _DEVIATIONS**2 / total
  middle = part + unit / 2
  half = math.sqrt(unit * (part * (1 - part) + unit / 4))
  low, high = (middle - half) / (1 + unit), (middle + half) / (1 + unit)
  # Rounding must not leave the fraction itself outside.
  return max(min(low, part), 0.0), min(max(high, part), 1.0)
