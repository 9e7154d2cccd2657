"""Rows of bytes that a test gives, in a file of a name that says their form."""

import pytest

from dss_jax.data import progress, row_files


@pytest.fixture
def rows_of(tmp_path):
  """Returns a function that writes bytes and reads (number, row) of them."""

  def read(name, data, wanted=('input', 'label')):
    path = tmp_path / name
    path.write_bytes(data)
    (file,) = row_files.find(str(path))
    columns = row_files.Columns()
    return [*row_files.rows(file, wanted, columns, progress.silent())]

  return read
