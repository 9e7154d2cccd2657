"""`dss export`: a run's student as a folder for Hugging Face transformers.

  hf_tokenizer  the tokenizer.json of a SentencePiece model
  measured      what a run's folder says: scores, what was trained on
  card          the README.md that says it
  command       the command

The weights are written by `t5x.checkpoints.formats.huggingface`.
"""

__all__ = ('command',)
