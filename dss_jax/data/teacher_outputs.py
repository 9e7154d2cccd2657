"""Where an extraction lies, and how TEACHER finds it by its name.

    runs/teachers/<teacher>/<data set>/
      cqa_train.json, …            the rows that were asked about
      <teacher>/train_CoT_0.json   what the teacher said, as published
      rows/train.jsonl             the same as rows of the user's own
      journal.jsonl, report.json, …

So `runs/teachers/<teacher>` is a folder in the published layout, which DATA can
name anywhere; and with the rows' own DATA, TEACHER alone finds it from the
folder that the extraction was started in. The environment variable DSS_TEACHERS
names another place than `runs/teachers`, also a remote one to read from.
"""

import os

from etils import epath

from dss_jax import errors
from dss_jax.data import archive

VARIABLE = 'DSS_TEACHERS'
DEFAULT = 'runs/teachers'


def root() -> epath.Path:
  """Returns the folder of all extractions."""
  return epath.Path(os.environ.get(VARIABLE) or DEFAULT).expanduser()


def folder(teacher: str, data_set: str) -> epath.Path:
  """Returns the folder of one extraction."""
  return root() / teacher / data_set


def files(teacher: str, data_set: str) -> archive.Files:
  """Returns the files of an extraction, named as in the published layout."""
  return archive.Files(root() / teacher, f'{data_set}/')


def check_rows(
  extracted: archive.Files, rows: archive.Files, name: str, teacher: str
) -> None:
  """Raises a DataError unless an extraction was made for these rows.

  Args:
    extracted: from `files`.
    rows: where the rows are that are to be paired with its outputs.
    name: of the file with the rows.
    teacher: the extraction's name.
  """
  if not extracted.exists(name) or extracted.read(name) != rows.read(name):
    raise errors.DataError(
      f'TEACHER is {teacher!r}, but {extracted.place(name)} does not hold the'
      f' rows of {rows.place(name)}: expected an extraction for these rows.'
      ' Give the DATA that it was made for, or extract again under another'
      ' name.'
    )
