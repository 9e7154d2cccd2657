"""Tests of what SeqIO's evaluator is given."""

import pytest
import seqio
import tensorflow as tf

from t5x import data, errors, inference


def test_a_split_that_no_task_has_is_told_before_anything_runs():
  source = seqio.FunctionDataSource(
    lambda split, shuffle_files, seed=None: tf.data.Dataset.range(1),
    splits=['eval'],
  )
  vocabulary = seqio.ByteVocabulary()
  name = 'evaluator_split'
  seqio.TaskRegistry.add(
    name,
    source,
    output_features={'targets': seqio.Feature(vocabulary)},
    metric_fns=[],
  )
  config = data.DatasetConfig(
    mixture_or_task_name=name,
    task_feature_lengths=None,
    split='evla',
    batch_size=1,
    shuffle=False,
    seed=0,
  )
  try:
    # What else it takes is not looked at before.
    with pytest.raises(errors.UserError, match=r"'evla'.*Did you mean 'eval'"):
      inference.InferenceEvaluator(config, None, None, None)
  finally:
    seqio.TaskRegistry.remove(name)
