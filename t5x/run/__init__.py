"""Training runs: loop, identity, provenance, progress and preemption.

Importing the package loads none of its modules.
"""

# fmt: off

__all__ = (
  'identity', 'loop', 'model_info', 'preemption', 'progress', 'provenance',
)
