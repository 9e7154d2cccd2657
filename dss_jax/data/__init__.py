"""Rows, from the files that hold them to TFDS data sets.

In the order of the data's way:

  archive          a folder or a zip, read without unpacking it
  release          the published archive, downloaded once
  row_formats      the columns of the published files
  teacher_outputs  a teacher's outputs: their files and completions
  completions      a teacher's completion, parsed into rationale and label
  equations        labels that are equations, compared by value
  text_files       text and JSON, with the place of every fault
  places           file and line of each of many rows
  records          rows of one data set, and a report on them
  row_files        files of the user's own rows: JSON, CSV, Parquet
  columns          names of a row's columns
  progress         how far the work on many rows is
  own_options      which files, and how to read them
  own_tables       all rows of one place
  own_rows         rows of the user's own, in their splits
  splits           which rows are train, validation and test
  tfds_builders    TFDS data sets of the records, prepared once

Importing the package loads none of them.
"""

# fmt: off

__all__ = (
  'archive', 'columns', 'completions', 'equations', 'own_options', 'own_rows',
  'own_tables', 'places', 'progress', 'records', 'release', 'row_files',
  'row_formats', 'splits', 'teacher_outputs', 'text_files', 'tfds_builders',
)
