"""What a run trains on, counted by the run and kept in its folder.

  record    the file, and what it says
  counting  counts it, and writes it

Importing the package loads neither.
"""

__all__ = ('counting', 'record')
