"""Files with rows of the user's own, in any of the forms that people have.

finding       one file, a folder of them or a glob: which files, in which order
opening       their bytes, packed or not, in bounded memory
json_rows     JSON lines, objects over several lines, arrays of objects
csv_rows      CSV and TSV
parquet_rows  Parquet, of which only the needed columns are read
text_rows     a text of which each line is an input
reading       all of them alike: (number, row)
cells         the text of a value, and whether it is missing
"""

from dss_jax.data.row_files.cells import (
  ValueProblem,
  label_key,
  text,
)
from dss_jax.data.row_files.finding import (
  ENDINGS,
  File,
  find,
  has_ending,
  holds_files,
)
from dss_jax.data.row_files.opening import digest
from dss_jax.data.row_files.reading import Columns, rows

# fmt: off
__all__ = (
  'ENDINGS', 'Columns', 'File', 'ValueProblem', 'digest', 'find', 'has_ending',
  'holds_files', 'label_key', 'rows', 'text',
)
