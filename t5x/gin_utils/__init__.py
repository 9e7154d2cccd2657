"""Gin files and flags.

parsing   reads them, and runs a program that they configure
mistakes  what gin's errors say of a user's mistake
"""

from t5x.gin_utils.parsing import (
  bindings,
  check_files,
  check_macros,
  check_values,
  flag_error,
  parse_gin_flags,
  rewrite_gin_args,
  run,
  search_paths,
  summarize_gin_config,
  user_errors_end_the_process,
  with_quotes,
)

__all__ = (
  'bindings',
  'check_files',
  'check_macros',
  'check_values',
  'flag_error',
  'parse_gin_flags',
  'rewrite_gin_args',
  'run',
  'search_paths',
  'summarize_gin_config',
  'user_errors_end_the_process',
  'with_quotes',
)
