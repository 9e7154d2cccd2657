"""Files with rows at a place: one, those of a folder, or those of a glob.

The files of a folder or glob are shards of one table, read in the order of
their names. So they must be of one form, and none may be another split's: a
folder with `train.jsonl` and `test.jsonl` would train on its test rows. A text
with a row a line is none of a folder's, which may have a README.txt.
"""

import dataclasses
import functools
import re
from collections.abc import Sequence

from etils import epath

from dss_jax import errors

ENDINGS = ('.jsonl', '.json', '.csv', '.tsv', '.parquet', '.txt')
TEXT = '.txt'
GZIP = '.gz'
# Parquet is packed by itself.
_PACKED = tuple(ending for ending in ENDINGS if ending != '.parquet')
_MAGIC = re.compile(r'[*?\[]')
# Words in the names of files that say which split they hold.
_SPLIT_WORDS = {
  'train': 'train', 'training': 'train',
  'validation': 'validation', 'valid': 'validation', 'val': 'validation',
  'dev': 'validation',
  'test': 'test', 'testing': 'test',
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class File:
  """One file with rows.

  Attributes:
    path: where it is.
    ending: which of `ENDINGS` it has, without `.gz`.
    packed: whether it is packed with gzip.
    stem: its name without any ending.
  """

  path: epath.Path
  ending: str
  packed: bool
  stem: str

  @functools.cached_property
  def place(self) -> str:
    """Its path, for messages."""
    return str(self.path)

  @property
  def word(self) -> str:
    """What its rows are counted by, in messages: 'line' or 'row'."""
    return 'row' if self.ending == '.parquet' else 'line'

  @property
  def has_header(self) -> bool:
    """Whether it names its columns before its rows."""
    return self.ending not in ('.jsonl', '.json', TEXT)


def _file(path: epath.Path) -> File | None:
  """Returns the file at a path; None if its ending is no known one."""
  name = path.name
  packed = name.lower().endswith(GZIP)
  inner = name[: -len(GZIP)] if packed else name
  stem, dot, last = inner.rpartition('.')
  ending = f'{dot}{last}'.lower()
  if not stem or ending not in (_PACKED if packed else ENDINGS):
    return None
  return File(path, ending, packed, stem)


def has_ending(location: str) -> bool:
  """Returns whether a path ends as a file with rows does.

  Args:
    location: the path, which need not exist.
  """
  return _file(epath.Path(location)) is not None


def _is_glob(path: epath.Path) -> bool:
  return bool(_MAGIC.search(str(path))) and not path.exists()


def holds_files(location: str) -> bool:
  """Returns whether a location is a glob, or a folder that holds such files.

  Args:
    location: a path.
  """
  path = epath.Path(location).expanduser()
  return _is_glob(path) or (path.is_dir() and bool(_of_folder(path)))


def _of_folder(path: epath.Path) -> list[File]:
  """Returns the files with rows directly in a folder; not hidden ones."""
  files = (
    _file(p) for p in path.iterdir() if not p.name.startswith(('.', '_'))
  )
  return [
    file
    for file in files
    if file is not None and file.ending != TEXT and file.path.is_file()
  ]


def _of_glob(path: epath.Path) -> list[File]:
  """Returns the files that a glob stands for."""
  parts = list(path.parts)
  first = next(i for i, part in enumerate(parts) if _MAGIC.search(part))
  root = epath.Path(*parts[:first]) if first else epath.Path('.')
  found = root.glob('/'.join(parts[first:])) if root.is_dir() else ()
  return [_known(p) for p in found if p.is_file()]


def _known(path: epath.Path) -> File:
  file = _file(path)
  if file is None:
    ending = ''.join(path.suffixes[-2:]) if path.suffix == GZIP else path.suffix
    raise errors.DataError(
      f'{path}: expected a file that ends in {", ".join(ENDINGS)}, packed with'
      f' {GZIP} or not, found {ending or "no ending"}. Rename it or write it in'
      ' one of these forms.'
    )
  return file


def find(location: str) -> tuple[File, ...]:
  """Returns the files with rows at a location, sorted by their paths.

  Args:
    location: a file, a folder or a glob, local or `gs://`.

  Returns:
    At least one file.

  Raises:
    DataError: there is none, or they are not shards of one table.
  """
  path = epath.Path(location).expanduser()
  if path.is_file():
    return (_known(path),)
  if path.is_dir():
    files = _of_folder(path)
  elif _is_glob(path):
    files = _of_glob(path)
  else:
    raise _missing(path)
  if not files:
    raise errors.DataError(
      f'{path}: expected files with rows, found none that ends in'
      f' {", ".join(ending for ending in ENDINGS if ending != TEXT)}. Correct'
      f" the path, or name texts by a glob, such as '{path}/*{TEXT}'."
    )
  files.sort(key=lambda file: str(file.path))
  _check_shards(path, files)
  return tuple(files)


def _missing(path: epath.Path) -> errors.DataError:
  folder = path.parent
  near = [p.name for p in folder.iterdir()] if folder.is_dir() else []
  return errors.DataError(
    f'{path}: expected a file with rows, found none there.'
    f'{errors.did_you_mean(path.name, near)} Correct the path.'
  )


def _check_shards(path: epath.Path, files: Sequence[File]) -> None:
  """Raises a DataError unless files are shards of one table."""
  forms: dict[str, str] = {}
  splits: dict[str, str] = {}
  stems: dict[tuple[str, str], str] = {}
  for file in files:
    name = file.path.name
    forms.setdefault(file.ending, name)
    words = re.split(r'[^a-z]+', file.stem.lower())
    split = next((_SPLIT_WORDS[w] for w in words if w in _SPLIT_WORDS), None)
    if split:
      splits.setdefault(split, name)
    key = (str(file.path.parent), file.stem)
    if key in stems:
      raise errors.DataError(
        f'{path}: expected each shard once, found {stems[key]} and {name}.'
        ' Remove one of them.'
      )
    stems[key] = name
  if len(splits) > 1:
    raise errors.DataError(
      f'{path}: expected the files of one split, found'
      f' {", ".join(splits.values())}. Name one file or a glob for each split:'
      ' DATA for the rows to train on, VALIDATION and TEST for the others.'
    )
  if len(forms) > 1:
    raise errors.DataError(
      f'{path}: expected files of one form, found {", ".join(forms.values())}.'
      ' Name those that are meant with a glob, such as'
      f" '{path if path.is_dir() else path.parent}/*{files[0].ending}'."
    )
