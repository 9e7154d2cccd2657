"""Formats of checkpoints on disk, each read lazily.

  orbax         Orbax's format, which runs write
  legacy_t5x    T5X's older layout, the one of its public checkpoints
  huggingface   folders of Hugging Face transformers
  peft          folders of peft: adapters, for a model that is elsewhere
  torch_pickle  pytorch_model.bin, read without torch and without pickle
  layer_stacks  one array per layer, or all layers in one array
  attention_heads  heads on an axis of their own, or joined
  lazy_array    an array that is not read yet

Each is a door: what writes a Hugging Face folder says so by its import.
"""

# fmt: off

__all__ = (
  'huggingface', 'layer_stacks', 'lazy_array', 'legacy_t5x', 'orbax', 'peft',
  'torch_pickle',
)
