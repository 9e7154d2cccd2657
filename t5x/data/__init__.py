"""Data: configurations of SeqIO tasks to batches, and a position in them."""

# fmt: off
from t5x.data import snapshots
from t5x.data.config import (
  DatasetConfig, StepLayout, check_lengths, check_split, get_vocabulary,
  mixture_or_task, step_layout, tasks_with_split, verify_matching_vocabs,
)
from t5x.data.content import content_digests, vocabulary_digests
from t5x.data.iterator import TrainIterator
from t5x.data.pipeline import (
  data_parts, get_dataset, get_dataset_inner, get_training_eval_datasets,
  global_batch_shapes, prepare_train_iter, shared_seed,
)
from t5x.data.tfexample_tasks import create_task_from_tfexample_file
from t5x.data.tfrecords import check_files, naming_damage_in_errors
from t5x.data.vocabularies import check_vocabulary

__all__ = (
  'DatasetConfig', 'StepLayout', 'TrainIterator', 'check_files',
  'check_lengths', 'check_split', 'check_vocabulary', 'content_digests',
  'create_task_from_tfexample_file', 'data_parts', 'get_dataset',
  'get_dataset_inner', 'get_training_eval_datasets', 'get_vocabulary',
  'global_batch_shapes', 'mixture_or_task', 'naming_damage_in_errors',
  'prepare_train_iter', 'shared_seed', 'snapshots', 'step_layout',
  'tasks_with_split', 'verify_matching_vocabs', 'vocabulary_digests',
)
