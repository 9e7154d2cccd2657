"""A finished student that answers: `dss_jax.load`, `dss ask`.

  usage         what those that ask a student must know of its training
  loading       a student of a run, or of an exported folder
  exported      a Hugging Face folder: its network, and what it says of its use
  inputs        texts and rows to the tokens that a student was trained on
  batches       tokens to answers, compiled once for each of a few shapes
  answering     labels, probabilities, rationales and scores of texts
  row_inputs    files of rows to ask about, read one row at a time
  answer_files  answers to any number of rows, resumed after a kill
  tables        finished answers as CSV, JSON lines or Parquet
  command       `dss ask`

Importing the package loads none of them.
"""

__all__ = ('answering', 'command', 'exported', 'loading', 'usage')
