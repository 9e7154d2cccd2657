"""Distilling step-by-step: small models trained on labels and rationales.

A finished student answers:

  import dss_jax

  student = dss_jax.load('runs/tickets')
  student.predict(['The printer jams.'])      # ['hardware']
  student.explain(['The printer jams.'])      # ['The device itself …']
  print(student.score(tickets, labels))       # 84.0% right (95%: …) of 400

`load` reads the folder of a run, or one that `dss export` wrote; its help has
more. What trains students are commands: `dss --help`, `python -m t5x.train`.

The packages, in the order of the data flow:

  `extract`   rationales and labels from a teacher: `dss extract`
  `data`      rows, from the files that hold them to TFDS data sets
  `pipeline`  records to packed batches: SeqIO tasks, and what they are made of
  `commands`  `dss data`
  `export`    a student for Hugging Face transformers: `dss export`
  `plan`      what a run needs: `dss plan`
  `student`   a finished student that answers: `load`, `dss ask`
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

Nothing is imported here: each part is imported by its own name, or by `load`.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from dss_jax.student.answering import Student

__all__ = ('load',)

# Of the distribution: setup.py reads this line, and CITATION.cff says the same.
__version__ = '0.1.0'


def load(
  run: 'str | os.PathLike[str]',
  step: int | None = None,
  *,
  batch_size: int | None = None,
  classes: Sequence[str] | None = None,
  allow: Sequence[str] = (),
) -> 'Student':
  """Returns a finished student, with its weights on the devices.

    student = dss_jax.load('runs/tickets')
    student.predict(['The printer jams.', 'I forgot my password.'])
    student.predict(texts, probabilities=True)  # pairs (label, probabilities)
    student.explain(texts)                      # rationales
    student.score(texts, labels)                # accuracy, its interval, n

  It answers as `python -m t5x.infer` does with the run's configuration: the
  same prefixes, lengths, vocabulary and decoding.

  Args:
    run: the folder of a run, or one of its checkpoints, local or gs://; or a
      local Hugging Face folder: what `dss export` wrote, or any other T5 with
      its vocabulary (spiece.model). A run's config.gin is read as data: no code
      that it names is run.
    step: which checkpoint of the run; the last by default.
    batch_size: texts that are answered together; by default what the run's
      evaluation has.
    classes: the possible labels, where neither the run's CLASSES nor its
      evaluation tell them; for `predict(…, probabilities=True)`.
    allow: modules of your own whose model the run has. Their code is run.

  Returns:
    A `dss_jax.student.answering.Student`.

  Raises:
    DataError: there is no run, or its configuration has another model.
    UserError: a checkpoint is missing, incomplete or damaged.
  """
  from dss_jax.student import loading

  return loading.load(
    run, step, batch_size=batch_size, classes=classes, allow=allow
  )
