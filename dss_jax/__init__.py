"""Distilling step-by-step: small models trained on labels and rationales.

The packages, in the order of the data flow:

  `extract`   rationales and labels from a teacher: `dss extract`
  `data`      rows, from the files that hold them to TFDS data sets
  `pipeline`  records to packed batches: SeqIO tasks, and what they are made of
  `commands`  `dss data`
  `export`    a student for Hugging Face transformers: `dss export`
  `plan`      what a run needs: `dss plan`
  `sample`    the packaged samples

The modules that gin files and users name, each a door to what is behind it:

  `mixtures`            an experiment, its SeqIO tasks and mixtures
  `own_data`            rows of the user's own
  `vocabularies`        which vocabulary a run reads and writes with
  `feature_converters`  examples to packed batches
  `models`              T5 with a loss over two tasks
  `optimization`        the optimizer of the published code
  `pretrained`          where a run's first weights come from
  `questions`           inputs that a finished model is asked about
  `screen`              the screens at the start and end of a run
  `cli`                 the command `dss`

Beside them, `errors` has the errors that users read, and `run_config` reads the
configuration of a run.

Nothing is imported here: each part is imported by its own name.
"""

# Of the distribution: setup.py reads this line, and CITATION.cff says the same.
__version__ = '0.1.0'
