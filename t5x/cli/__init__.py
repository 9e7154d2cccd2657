"""Command lines: flags, and what every command does first and last.

Importing the package loads none of its modules.
"""

__all__ = ('commands', 'flags', 'gin_reader', 'quiet_tensorflow', 'streams')
