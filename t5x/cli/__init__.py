"""Command lines: flags, and what every command does first and last.

Importing the package loads none of its modules.
"""

__all__ = ('commands', 'flags', 'quiet_tensorflow', 'streams')
