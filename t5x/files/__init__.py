"""Files and folders, local and remote: atomic writes, one writer, errors."""

# fmt: off
from t5x.files import folder_lock, gin_files
from t5x.files.paths import (
  is_remote, join, naming_path_in_errors, replacing, storage_error,
)

__all__ = (
  'folder_lock', 'gin_files', 'is_remote', 'join', 'naming_path_in_errors',
  'replacing', 'storage_error',
)
