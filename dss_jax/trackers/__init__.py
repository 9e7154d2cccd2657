"""Experiment trackers, MLflow and Weights & Biases, beside TensorBoard.

A run's trackers are actions of its trainer, T5X's own way to see metrics:

  reporting     the actions, and what they hand to a tracker
  delivery      a thread that delivers, whatever happens to a server
  mlflow_runs   a run in MLflow
  wandb_runs    a run in Weights & Biases
"""

from dss_jax.trackers.reporting import actions

__all__ = ('actions',)
