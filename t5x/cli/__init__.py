"""Command lines: flags, and what every command does first and last.

Importing the package loads none of its modules.
"""

# fmt: off

__all__ = (
  'above_bar', 'commands', 'flags', 'gin_reader', 'quiet_tensorflow', 'stages',
  'streams',
)
