"""Scores: predictions and labels compared as a student can write them.

  spelling   what a vocabulary makes of texts, and what it lacks
  answers    predictions and labels, as they are compared
  grading    gold labels or a teacher's: what answers are compared with
  metrics    what a prediction is scored with
  intervals  of measured fractions

Importing the package loads none of them.
"""

__all__ = ('answers', 'grading', 'intervals', 'metrics', 'spelling')
