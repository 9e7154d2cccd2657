"""First argument of `dss study`: a data set, a gin file, or a file of rows."""

import dataclasses
import glob
import os
from collections.abc import Mapping, Sequence

from dss_jax import errors
from dss_jax.data import row_files
from t5x.cli import gin_reader

# Data sets that have an experiment of their own in gin/.
DATA_SETS = ('cqa', 'svamp', 'asdiv', 'esnli', 'anli1')
_SIZES = 'gin/sizes/'
# What names no file, even if there is one.
_WORDS = (*DATA_SETS, 'sample', 'release')


@dataclasses.dataclass(frozen=True)
class Source:
  """What the first argument stands for.

  Attributes:
    gin_files: of the experiment.
    bindings: what they leave open, by name, each value as gin reads it.
    size: what the model's size is called unless the grid gives sizes.
  """

  gin_files: tuple[str, ...]
  bindings: Mapping[str, str]
  size: str


def find(argument: str, gin_files: Sequence[str] = ()) -> Source:
  """Returns what the first argument of `dss study` stands for.

  Args:
    argument: 'cqa', 'my.gin', 'my_rows.jsonl'; as `absolute` returns it.
    gin_files: further ones, which may have a size.

  Raises:
    DataError: it stands for nothing.
  """
  sizes = [f for f in gin_files if f.startswith(_SIZES)]
  size = sizes[-1].removeprefix(_SIZES).removesuffix('.gin') if sizes else ''
  ending = os.path.splitext(argument)[1].lower()
  if argument in DATA_SETS:
    return Source((f'gin/dss_{argument}.gin',), {}, size or 'tiny')
  if ending == '.gin':
    name = os.path.basename(argument).removesuffix('.gin')
    return Source((argument,), {}, size or name)
  if row_files.has_ending(argument) or row_files.holds_files(argument):
    data = {'DATA': repr(argument)}
    return Source(('gin/dss_custom.gin',), data, size or 'tiny')
  close = errors.did_you_mean(argument, DATA_SETS)
  if argument in _WORDS:
    close = f' {argument!r} is a value of --data.'
  raise errors.DataError(
    f'{argument!r}: expected a data set ({", ".join(DATA_SETS)}), a gin file,'
    f' a study file (.yaml), or a file of rows'
    f' ({", ".join(row_files.ENDINGS)}), a folder or a glob of them.'
    f'{close}'
  )


def has_own_rows(argument: str, gin_files: Sequence[str] = ()) -> bool:
  """Returns whether a study is on rows of the user's own.

  Args:
    argument: as in `find`.
    gin_files: likewise.

  Raises:
    DataError: likewise.
  """
  source = find(argument, gin_files)
  if source.bindings:
    return True
  macros = gin_reader.read([*source.gin_files, *gin_files]).macros
  return 'DATA_SET' in macros and macros['DATA_SET'].value == 'custom'


def absolute(path: str) -> str:
  """Returns the path of a file here as it holds in every folder.

  The gin files of the package keep their names, which are looked up.

  Args:
    path: or a name, which is returned as it is.
  """
  packaged = path.startswith('gin/') and path.endswith('.gin')
  if packaged or path in _WORDS:
    return path
  if not os.path.exists(path) and not glob.glob(path):
    return path
  return os.path.abspath(path)
