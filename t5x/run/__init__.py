"""Training runs: loop, identity, progress and preemption.

Importing the package loads none of its modules.
"""

__all__ = ('identity', 'loop', 'model_info', 'preemption', 'progress')
