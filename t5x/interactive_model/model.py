"""Interactive model: trains, predicts and evaluates on a few examples.

model = InteractiveModel(batch_size=8, …)
model.train_step([{'input': 'predict: 2 + 3', 'target': '5'}])
[(example, answer)], aux = model.predict_with_aux(['predict: 2 + 3'])
"""

import enum
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import seqio
import tensorflow as tf

from t5x import (
  checkpoints,
  data,
  errors,
  inference,
  initialization,
  models,
  optimizers,
  partitioning,
)
from t5x import train_state as train_state_lib
from t5x import trainer as trainer_lib
from t5x.cli import commands
from t5x.inference import results
from t5x.interactive_model import examples as examples_lib

Batches = examples_lib.Batches
Example = examples_lib.Example
Preprocessors = examples_lib.Preprocessors

_Datasets = tuple[tf.data.Dataset, tf.data.Dataset]

_LEARNING_RATE = 0.001
# Of the methods that take no preprocessors.
_PREPROCESSORS = (
  seqio.preprocessors.tokenize,
  seqio.preprocessors.append_eos_after_trim,
)


class InferenceType(enum.Enum):
  """What to infer; the values are the modes of `t5x.infer`."""

  PREDICT = 'predict'
  PREDICT_WITH_AUX = 'predict_with_aux'
  SCORE = 'score'


class InteractiveModel:
  """Holds a model and its state; every call takes a list of examples.

  An example is a mapping of `input` and `target` to text, or of feature name to
  text, or a text, which is its input with an empty target. Methods without
  preprocessors tokenize, and add the end of sequence where `add_eos` says so.

  Args:
    batch_size: rows of a batch. Calls may have fewer examples; inference may
      have more.
    task_feature_lengths: tokens for each feature, such as
      `{'inputs': 64, 'targets': 16}`; longer ones are cut.
    output_dir: for checkpoints and training metrics. If it has a checkpoint,
      its last one goes before `checkpoint_path`.
    partitioner: lays arrays out on the devices.
    model: what to train and ask.
    dtype: type in which parameters are restored and saved; None is the model's
      own on restoring, and float32 on saving.
    restore_mode: 'specific' or 'latest', of `checkpoint_path`.
    checkpoint_path: what to start from; None or '' starts from scratch.
    input_shapes: shape of every feature of a batch.
    input_types: type of every feature.
    init_random_seed: of the parameters and of dropout.
    add_eos: whether features end with the end of sequence.
    eval_names: tasks that the trainer's `eval` may be given.

  Raises:
    errors.UserError: if `checkpoint_path` has no checkpoint, or a vocabulary
      that the network cannot take.
  """

  def __init__(
    self,
    batch_size: int,
    task_feature_lengths: Mapping[str, int],
    output_dir: str,
    partitioner: partitioning.BasePartitioner,
    model: models.BaseTransformerModel,
    dtype: str | None,
    restore_mode: str,
    checkpoint_path: str,
    input_shapes: Mapping[str, Any],
    input_types: Mapping[str, Any] | None = None,
    init_random_seed: int = 42,
    add_eos: bool = True,
    eval_names: Sequence[str] | None = None,
  ):
    if jax.process_count() > 1:
      raise errors.UserError(
        f'InteractiveModel runs in one process, found {jax.process_count()}.'
        ' Use t5x.train, t5x.eval and t5x.infer on several hosts.'
      )
    partitioner.check_batch_size(batch_size)
    for side, vocabulary in (
      ('input', model.input_vocabulary),
      ('output', model.output_vocabulary),
    ):
      place = f'The {side} vocabulary of the model'
      data.check_vocabulary(vocabulary, model, place, needs_end=add_eos)
    self._batch_size = batch_size
    self._lengths = dict(task_feature_lengths)
    self._model = model
    self._partitioner = partitioner
    self._output_features = {
      name: seqio.Feature(
        model.output_vocabulary
        if name == 'targets'
        else model.input_vocabulary,
        add_eos=add_eos,
      )
      for name in task_feature_lengths
    }
    self._output_dir = output_dir
    self._infer_fns: dict[InferenceType, Callable[..., Any]] = {}
    self._pipelines: dict[
      Any, tuple[examples_lib.ReplaceableRows, _Datasets]
    ] = {}
    self._train_summary: trainer_lib.MetricValues | None = None

    # The state: the last one in the folder, else the given one, else a new one.
    initializer = initialization.initializer_of(
      model, partitioner, input_shapes, input_types
    )
    self._train_state_axes = initializer.train_state_axes
    init_rng, trainer_rng = jax.random.split(jax.random.key(init_random_seed))
    given = checkpoints.RestoreCheckpointConfig(
      path=checkpoint_path or None, mode=restore_mode, dtype=dtype
    )
    own = checkpoints.RestoreCheckpointConfig(
      path=output_dir, mode='latest', dtype=dtype
    )
    _, paths = checkpoints.get_first_valid_restore_config_and_paths([given])
    self._given_checkpoint = paths[-1] if paths else None
    state = initializer.from_checkpoint([own, given], init_rng=init_rng)
    if state is None and checkpoint_path:
      raise commands.no_checkpoint(given)
    if state is None:
      state = initializer.from_scratch(init_rng)

    # What trains it, and what saves it.
    self._trainer = trainer_lib.Trainer(
      model=model,
      train_state=state,
      partitioner=partitioner,
      eval_names=eval_names or (),
      summary_dir=output_dir,
      train_state_axes=self._train_state_axes,
      rng=trainer_rng,
      learning_rate_fn=optimizers.create_learning_rate_scheduler(
        factors='constant', base_learning_rate=_LEARNING_RATE
      ),
      num_microbatches=None,
    )
    self._manager = checkpoints.SaveCheckpointConfig(
      dtype=dtype or 'float32'
    ).make_manager(output_dir, state, partitioner)

  @property
  def trainer(self) -> trainer_lib.Trainer:
    """Trains at a constant learning rate of 0.001; see `Trainer`."""
    return self._trainer

  @property
  def partitioner(self) -> partitioning.BasePartitioner:
    return self._partitioner

  @property
  def model(self) -> models.BaseTransformerModel:
    return self._model

  @property
  def train_state(self) -> train_state_lib.TrainState:
    return self._trainer.train_state

  @property
  def train_state_axes(self) -> train_state_lib.TrainState:
    return self._train_state_axes

  @property
  def batch_size(self) -> int:
    return self._batch_size

  @property
  def task_feature_lengths(self) -> Mapping[str, int]:
    return self._lengths

  @property
  def output_features(self) -> Mapping[str, seqio.Feature]:
    """The features of its examples, as a task names them."""
    return self._output_features

  @property
  def output_dir(self) -> str:
    return self._output_dir

  @property
  def last_checkpoint(self) -> str | None:
    """The last one that was saved, else the one it began with, or None."""
    steps = checkpoints.all_steps(self._output_dir)
    if steps:
      return str(checkpoints.get_checkpoint_dir(self._output_dir, steps[-1]))
    return self._given_checkpoint

  @property
  def train_summary(self) -> trainer_lib.MetricValues | None:
    """Metrics of the last training step; None before the first."""
    return self._train_summary

  @property
  def step(self) -> int:
    return int(self.train_state.step)

  # ---- Training --------------------------------------------------------------

  def train_step(self, examples: Sequence[Example]) -> None:
    """Does one training step on up to `batch_size` examples."""
    self.train_step_with_preprocessors(examples, _PREPROCESSORS)

  def train_step_with_preprocessors(
    self, examples: Sequence[Example], preprocessors: Preprocessors
  ) -> None:
    """Does one training step on what the preprocessors make of examples.

    Args:
      examples: mappings of text, or texts.
      preprocessors: SeqIO preprocessors that end in token features.

    Raises:
      errors.UserError: if there are no examples, or more than a batch has.
    """
    _, features = self._datasets(
      examples_lib.task(examples, preprocessors, self._output_features)
    )
    rows = list(features.as_numpy_iterator())
    if not 0 < len(rows) <= self._batch_size:
      raise errors.UserError(
        f'InteractiveModel.train_step: expected 1 to {self._batch_size}'
        f' examples (batch_size), found {len(rows)}. Split them over steps.'
      )
    # Rows of zeros fill the batch up. Their loss weights are zero.
    rows += [jax.tree.map(np.zeros_like, rows[0])] * (
      self._batch_size - len(rows)
    )
    batch = jax.tree.map(lambda *x: np.stack(x), *rows)
    self.train_step_from_batch_iterator(iter([batch]))

  def train_step_from_batch_iterator(
    self, iterator: Iterator[Mapping[str, Any]]
  ) -> None:
    """Does one training step on the next batch of model features."""
    self._train_summary = self._trainer.train(iterator, 1).result()

  def save_checkpoint(self) -> None:
    """Saves the state as `<output_dir>/checkpoint_<step>`."""
    self._manager.save(self.train_state, force=True)
    # The next step may overwrite the state.
    self._manager.wait_until_finished()

  # ---- Inference -------------------------------------------------------------

  def predict(self, examples: Sequence[Example]) -> Sequence[Any]:
    """Returns pairs of an example and the text predicted for it."""
    return self.infer_with_preprocessors(
      InferenceType.PREDICT, examples, _PREPROCESSORS
    )[0]

  def predict_with_aux(
    self, examples: Sequence[Example]
  ) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Returns what `predict` does, and a list for each auxiliary value."""
    return self.infer_with_preprocessors(
      InferenceType.PREDICT_WITH_AUX, examples, _PREPROCESSORS
    )

  def score(self, examples: Sequence[Example]) -> Sequence[Any]:
    """Returns pairs of an example and its targets' log-likelihood."""
    return self.infer_with_preprocessors(
      InferenceType.SCORE, examples, _PREPROCESSORS
    )[0]

  def infer_with_preprocessors(
    self,
    mode: InferenceType,
    examples: Sequence[Example],
    preprocessors: Preprocessors,
    **inference_kwargs: Any,
  ) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Infers on what the preprocessors make of examples.

    Args:
      mode: what to infer.
      examples: mappings of text, or texts.
      preprocessors: SeqIO preprocessors that end in token features.
      **inference_kwargs: for the model's `predict_batch_with_aux`, … such as
        `num_decodes=4, return_all_decodes=True`. Each call with any compiles.

    Returns:
      Pairs of a preprocessed example and its prediction or score, and a list
      for each auxiliary value.
    """
    mode = InferenceType(mode)
    task = examples_lib.task(examples, preprocessors, self._output_features)
    kept, outputs, aux = self._infer(mode, task, inference_kwargs)
    if mode != InferenceType.SCORE:
      vocabulary = self._model.output_vocabulary
      outputs = [results.decode(tokens, vocabulary) for tokens in outputs]
    return list(zip(kept, outputs, strict=True)), aux

  def _infer(
    self, mode: InferenceType, task: seqio.Task, kwargs: Mapping[str, Any]
  ) -> tuple[Sequence[Any], Sequence[Any], Mapping[str, Any]]:
    """Returns the examples, the model's outputs and the auxiliary values."""
    examples, features = self._datasets(task)
    kept = [results.plain(e) for e in examples.as_numpy_iterator()]
    if not kept:
      raise errors.UserError('InteractiveModel: expected examples, found none.')
    infer_fn = None if kwargs else self._infer_fns.get(mode)
    if infer_fn is None:
      infer_fn = inference.get_infer_fn(
        inference.infer_step(self._model, mode.value, **kwargs),
        self._batch_size,
        self._train_state_axes,
        self._partitioner,
      )
      if not kwargs:
        self._infer_fns[mode] = infer_fn
    result = infer_fn(features.enumerate(), self.train_state)
    values, aux = result if isinstance(result, tuple) else (result, {})
    return kept, [value for _, value in values], aux

  # ---- Evaluation ------------------------------------------------------------

  def evaluate(
    self, examples: Sequence[Example], metric_fns: examples_lib.MetricFns
  ) -> Mapping[str, Any]:
    """Returns metric name to value over examples with targets.

    Args:
      examples: mappings with `inputs` and `targets`.
      metric_fns: SeqIO metric functions: of (targets, predictions), (targets,
        predictions, aux_values) or (targets, scores).
    """
    return self.evaluate_with_preprocessors(
      examples, _PREPROCESSORS, metric_fns
    )

  def evaluate_with_preprocessors(
    self,
    examples: Sequence[Example],
    preprocessors: Preprocessors,
    metric_fns: examples_lib.MetricFns,
    postprocessor: Callable[..., Any] | None = None,
  ) -> Mapping[str, Any]:
    """Returns metric name to value.

    Args:
      examples: mappings of text.
      preprocessors: SeqIO preprocessors that end in token features.
      metric_fns: see `evaluate`.
      postprocessor: SeqIO's postprocess function, of targets and predictions.
    """
    task = examples_lib.task(
      examples, preprocessors, self._output_features, postprocessor, metric_fns
    )
    metrics: dict[str, Any] = {}
    for mode, functions in (
      (InferenceType.PREDICT, task.predict_metric_fns),
      (InferenceType.PREDICT_WITH_AUX, task.predict_with_aux_metric_fns),
      (InferenceType.SCORE, task.score_metric_fns),
    ):
      if not functions:
        continue
      kept, outputs, aux = self._infer(mode, task, {})
      targets = [
        task.postprocess_fn(
          examples_lib.target_text(e, task), example=e, is_target=True
        )
        for e in kept
      ]
      if mode != InferenceType.SCORE:
        vocabulary = task.output_features['targets'].vocabulary
        outputs = [
          task.postprocess_fn(
            results.decode(tokens, vocabulary), example=e, is_target=False
          )
          for e, tokens in zip(kept, outputs, strict=True)
        ]
      extra = (aux,) if mode == InferenceType.PREDICT_WITH_AUX else ()
      for function in functions:
        metrics.update(function(targets, outputs, *extra))
    return metrics

  def train_loop(
    self,
    num_steps: int,
    eval_period: int | None = 1,
    train_batches: Batches | None = None,
    predict_batches: Batches | None = None,
    score_batches: Batches | None = None,
    eval_batches: Batches | None = None,
    metrics_fns: examples_lib.MetricFns | None = None,
  ) -> Sequence[Mapping[str, Any]]:
    """Trains some steps, and predicts, scores and evaluates in between.

    Args:
      num_steps: how many steps; without `train_batches` nothing is trained and
        the rest happens once.
      eval_period: steps between looks at the other batches; None looks at the
        end alone.
      train_batches: a batch, or batches to go through again and again.
      predict_batches: a batch or batches to predict.
      score_batches: a batch or batches to score.
      eval_batches: a batch or batches to compute metrics of.
      metrics_fns: the metrics; see `evaluate`.

    Returns:
      A mapping for each look: 'step', and 'predictions', 'scores', 'metrics' as
      `predict_with_aux`, `score` and `evaluate` return them for each batch.

    Raises:
      errors.UserError: if `eval_batches` come without `metrics_fns`.
    """
    if eval_batches and not metrics_fns:
      raise errors.UserError(
        'InteractiveModel.train_loop: eval_batches need metrics_fns, such as'
        ' [seqio.metrics…]. Found none.'
      )
    asked = {
      'predictions': (predict_batches, self.predict_with_aux),
      'scores': (score_batches, self.score),
      'metrics': (eval_batches, lambda x: self.evaluate(x, metrics_fns or ())),
    }

    def look() -> dict[str, Any]:
      scores = {
        name: [function(batch) for batch in examples_lib.as_batches(batches)]
        for name, (batches, function) in asked.items()
        if batches
      }
      return {'step': self.step, **scores}

    if not train_batches:
      return [look()]
    looks = []
    batches = itertools.islice(
      itertools.cycle(examples_lib.as_batches(train_batches)), num_steps
    )
    for done, batch in enumerate(batches, 1):
      self.train_step(batch)
      if done == num_steps or (eval_period and done % eval_period == 0):
        looks.append(look())
    return looks

  def _datasets(self, task: seqio.Task) -> _Datasets:
    """Returns the preprocessed examples and the model's features of them."""
    # A caller's preprocessors may not do the same at each call.
    if tuple(task.preprocessors) != _PREPROCESSORS:
      return self._built(task)
    source = task.source.get_dataset(examples_lib.SPLIT, shuffle=False)
    kind = tuple(sorted(source.element_spec.items()))
    if kind not in self._pipelines:
      rows = examples_lib.ReplaceableRows(task, source.element_spec)
      self._pipelines[kind] = rows, self._built(rows.task)
    rows, datasets = self._pipelines[kind]
    rows.rows = list(source.as_numpy_iterator())
    return datasets

  def _built(self, task: seqio.Task) -> _Datasets:
    examples = task.get_dataset(
      sequence_length=self._lengths, split=examples_lib.SPLIT, shuffle=False
    )
    converter = self._model.FEATURE_CONVERTER_CLS(pack=False)
    return examples, converter(examples, task_feature_lengths=self._lengths)
