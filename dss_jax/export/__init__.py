"""`dss export`: a run's student as a folder for Hugging Face transformers.

  hf_tokenizer  the tokenizer.json of a SentencePiece model
  command       the command

The weights are written by `t5x.checkpoints.formats.huggingface`.
"""

__all__ = ('command',)
