"""Gin files: where they are looked up, and what is said of an absent one."""

import glob
import importlib.metadata
import importlib.util
import os
import pathlib
import re
from collections.abc import Sequence

from t5x import errors
from t5x.files import paths

_SEARCH_PATH_GROUP = 't5x.gin_search_paths'


def search_paths() -> list[str]:
  """Returns the folders against which gin files are looked up.

  First the folder that holds the package, so that `t5x/configs/…` is found
  from anywhere; then the folder of every installed package that asks for it by
  an entry point of the group `t5x.gin_search_paths`.
  """
  folders = [str(pathlib.Path(os.path.abspath(__file__)).parents[2])]
  for entry in importlib.metadata.entry_points(group=_SEARCH_PATH_GROUP):
    spec = importlib.util.find_spec(entry.value)
    if spec is not None and spec.submodule_search_locations:
      folders.extend(spec.submodule_search_locations)
  return list(dict.fromkeys(folders))


def check(names: Sequence[str], before: Sequence[str] = ()) -> None:
  """Raises UserError unless gin files, and what they include, exist.

  Args:
    names: of the files, as gin is given them.
    before: folders to look in after the working folder, before the usual ones.
  """
  folders = list(dict.fromkeys([os.getcwd(), *before, *search_paths()]))
  for name in names:
    _check_file(name, folders)


def _check_file(
  path: str, folders: Sequence[str], within: tuple[str, ...] = ()
) -> None:
  """Raises UserError unless a gin file, and what it includes, exists."""
  if paths.is_remote(path):
    return  # A file system that is registered with gin.
  if path in within:
    raise errors.UserError(f'{path}: this gin file includes itself.')
  candidates = (pathlib.Path(folder, path) for folder in folders)
  file = next((p for p in candidates if p.is_file()), None)
  if file is not None:
    text = file.read_text(encoding='utf-8')
    for included in re.findall(r"""^include\s+['"](.+?)['"]""", text, re.M):
      _check_file(included, folders, (*within, path))
  elif not _is_resource(path):
    raise errors.UserError(
      f'Gin file not found: {path}.'
      f'{errors.did_you_mean(path, _gin_files_near(path, folders))} Looked in'
      f' {", ".join(folders)}.'
    )


def _is_resource(path: str) -> bool:
  """Whether gin finds a file within an installed package."""
  package, name = os.path.split(path)
  try:
    spec = importlib.util.find_spec(package.replace(os.sep, '.'))
  except (ImportError, ValueError):
    return False
  if spec is None or spec.origin is None:
    return False
  return pathlib.Path(spec.origin).with_name(name).is_file()


def _gin_files_near(path: str, folders: Sequence[str]) -> list[str]:
  """Returns gin files in the folder of `path`, or below its first folder."""
  if os.path.isabs(path):
    return sorted(glob.glob(os.path.join(os.path.dirname(path), '*.gin')))
  patterns = [os.path.join(os.path.dirname(path), '*.gin')]
  first = os.path.normpath(path).split(os.sep)[0]
  if first != os.pardir:  # It may hold all that there is.
    patterns.append(os.path.join(first, '**', '*.gin'))
  return sorted(
    {
      match
      for folder in folders
      for pattern in patterns
      for match in glob.iglob(pattern, root_dir=folder, recursive=True)
    }
  )
