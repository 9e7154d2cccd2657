"""Train states to begin with: fresh on the devices, or from a checkpoint."""

from t5x.initialization.initializer import TrainStateInitializer

__all__ = ('TrainStateInitializer',)
