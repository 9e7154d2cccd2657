"""Commands of `dss` that are a few modules each.

  data               `dss data`: looks at data, or prepares it
  inspection         what training would see of it
  inspection_screen  that, on a terminal
  unknown_text       what the vocabulary does not know of it
  export             `dss export`: a student for Hugging Face transformers
  hf_tokenizer       its tokenizer.json

`dss extract` and `dss plan` have packages of their own. Importing the package
loads none of them.
"""

__all__ = ('data', 'export', 'inspection', 'unknown_text')
