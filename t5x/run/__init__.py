"""A training run: its loop, identity, progress, and what ends it early.

Importing the package loads none of its modules.
"""

__all__ = ('identity', 'loop', 'model_info', 'preemption', 'progress')
