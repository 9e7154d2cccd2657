"""Rows, from the files that hold them to TFDS data sets.

In the order of the data's way:

  archive          a folder or a zip, read without unpacking it
  release          the published archive, downloaded once
  row_formats      the columns of the published files
  teacher_outputs  a teacher's outputs: their files and completions
  completions      a teacher's completion, parsed into rationale and label
  equations        labels that are equations, compared by value
  text_files       text and JSON, with the place of every fault
  records          rows of one data set, and a report on them
  own_rows         rows of the user's own: JSON lines, CSV, Parquet
  splits           which rows are train, validation and test
  tfds_builders    TFDS data sets of the records, prepared once

Importing the package loads none of them.
"""

# fmt: off

__all__ = (
  'archive', 'completions', 'equations', 'own_rows', 'records', 'release',
  'row_formats', 'splits', 'teacher_outputs', 'text_files', 'tfds_builders',
)
