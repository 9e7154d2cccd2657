"""Command lines: flags, their help, and what every command does first and last.

Importing the package loads none of its modules.
"""

__all__ = ('commands', 'flags', 'help')
