"""Formats of checkpoints: how each lies on disk, read lazily.

  orbax         what runs write: Orbax, with names and values of our own order
  legacy_t5x    T5X's older layout, in which its public checkpoints are
  huggingface   folders of Hugging Face transformers
  torch_pickle  pytorch_model.bin, read without torch and without pickle
  layer_stacks  one array per layer, or all layers in one array
  lazy_array    an array that is not read yet

Importing the package loads none of them.
"""

__all__ = (
  'huggingface',
  'layer_stacks',
  'lazy_array',
  'legacy_t5x',
  'orbax',
  'torch_pickle',
)
