"""Records to packed batches: SeqIO tasks, and what they are made of.

  methods            the names of the ways to train
  kinds              the kinds of rationales, each with its task
  experiment         what a run trains on: options, and what they come to
  names              what its tasks and mixtures are called
  preprocessors      a row to the inputs and targets of a task
  scoring            predictions and labels, compared and scored
  sources            SeqIO data sources over the TFDS data sets
  cached_tasks       SeqIO tasks that keep a small set's finished examples
  registry           what is registered already, and what is not
  registration       the tasks and mixtures of an experiment
  packing            several examples in a row
  orders             epochs, cut into the windows of steps
  steps              mixtures that lay out steps of so many label examples
  step_rows          how many rows a step needs
  feature_converter  examples to packed batches, with each token's task
  row_shapes         row lengths that suit a data set
  lengths            what a run's lengths cut off its examples

Importing the package loads none of them.
"""

# fmt: off

__all__ = (
  'experiment', 'feature_converter', 'kinds', 'lengths', 'methods', 'names',
  'packing', 'preprocessors', 'registration', 'row_shapes', 'scoring',
  'sources', 'step_rows', 'steps',
)
