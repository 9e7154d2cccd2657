"""Distilling step-by-step: small models trained on labels and rationales.

The parts, in the order of the data's way:

  `teacher`        parses a teacher's completion into rationale and label
  `records`        reads released files and reports what is in them
  `splits`         which rows are train, validation and test
  `builders`       TFDS data sets of the records
  `sources`        SeqIO data sources over those
  `preprocessors`  rows to the inputs and targets of a task
  `metrics`        what a prediction is scored with
  `mixtures`       SeqIO tasks and mixtures under one naming rule

Nothing is imported here: each part is imported by its own name.
"""

# Of the distribution: setup.py reads this line, and CITATION.cff says the same.
__version__ = '0.1.0'
