"""Gin files that do with T5X's programs what a notebook has tried out."""

import enum

from t5x.interactive_model.model import InteractiveModel


class T5XScriptType(enum.Enum):
  """What a gin file is for; each has a stock file of a run."""

  PRETRAINING = 'pretraining'
  FINETUNING = 'finetuning'
  EVALUATION = 'evaluation'
  INFERENCE = 'inference'


# The stock file, the macro of its checkpoint, and that of its folder.
_FILES = {
  T5XScriptType.PRETRAINING: ('pretrain', None, 'MODEL_DIR'),
  T5XScriptType.FINETUNING: (
    'finetune', 'INITIAL_CHECKPOINT_PATH', 'MODEL_DIR',
  ),
  T5XScriptType.EVALUATION: ('eval', 'CHECKPOINT_PATH', 'EVAL_OUTPUT_DIR'),
  T5XScriptType.INFERENCE: ('infer', 'CHECKPOINT_PATH', 'INFER_OUTPUT_DIR'),
}  # fmt: skip
_TRAINS = (T5XScriptType.PRETRAINING, T5XScriptType.FINETUNING)


def get_gin_config_from_interactive_model(
  interactive_model: InteractiveModel,
  script_type: T5XScriptType,
  task_name: str,
  partitioner_config_str: str,
  model_config_str: str,
  imports_str: str = '',
  train_steps: int | None = None,
) -> str:
  """Returns a gin file that includes a stock one and binds its macros.

  The lengths, the batch size, the output folder and the last checkpoint are
  those of the interactive model. Its network, optimizer and devices are objects
  of Python, and so have to be given as gin again.

  Args:
    interactive_model: what was tried out.
    script_type: what the file is for.
    task_name: the task or mixture to read.
    partitioner_config_str: gin bindings of `partitioning.PjitPartitioner`.
    model_config_str: gin bindings that give the macro MODEL, such as an
      `include` of a file of t5x/examples.
    imports_str: gin lines that import what these two name, and the module that
      registers the task.
    train_steps: the step at which training ends; without it the macro
      TRAIN_STEPS is left to the command line.

  Returns:
    The text of the file, for `--gin_file`.
  """
  file, checkpoint, folder = _FILES[T5XScriptType(script_type)]
  macros = {
    'MIXTURE_OR_TASK_NAME': task_name,
    'TASK_FEATURE_LENGTHS': dict(interactive_model.task_feature_lengths),
    'BATCH_SIZE': interactive_model.batch_size,
    'USE_CACHED_TASKS': False,
    folder: interactive_model.output_dir,
  }
  if checkpoint is not None:
    macros[checkpoint] = interactive_model.last_checkpoint
  if script_type in _TRAINS and train_steps is not None:
    macros['TRAIN_STEPS'] = train_steps
  lines = [
    'from __gin__ import dynamic_registration',
    'from t5x import partitioning',
    imports_str,
    model_config_str,
    f"include 't5x/configs/runs/{file}.gin'",
    partitioner_config_str,
    *(f'{name} = {value!r}' for name, value in macros.items()),
  ]
  return '\n'.join(line for line in lines if line) + '\n'
