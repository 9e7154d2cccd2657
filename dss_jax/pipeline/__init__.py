"""Records to packed batches: SeqIO tasks, and what they are made of.

  names              the naming rule's parts, and the sample's vocabulary
  preprocessors      a row to the inputs and targets of a task
  metrics            what a prediction is scored with
  sources            SeqIO data sources over the TFDS data sets
  cached_tasks       SeqIO tasks that keep a small set's finished examples
  registry           what is registered already, and what is not
  experiment         options, names and tasks of one experiment
  packing            several examples in a row
  feature_converter  examples to packed batches, with each token's task
  row_shapes         row lengths that suit a data set

Importing the package loads none of them.
"""

__all__ = (
  'experiment',
  'feature_converter',
  'names',
  'packing',
  'preprocessors',
  'row_shapes',
  'sources',
)
