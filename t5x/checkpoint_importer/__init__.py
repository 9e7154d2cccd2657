"""Arrays that are read on demand, under T5X's name for their module.

Mesh TensorFlow checkpoints, which the module of T5X converts, are refused; see
`checkpoints.Checkpointer.restore_from_tf_checkpoint`.
"""

from t5x.checkpoints import LazyArray

__all__ = ('LazyArray',)
