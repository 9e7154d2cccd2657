"""Evaluator of a model by SeqIO: predictions, scores, metrics, files."""

import os
from collections.abc import Callable, Mapping, Sequence

import jax
import seqio
import tensorflow as tf

from t5x import data, models, partitioning
from t5x import train_state as train_state_lib
from t5x.inference import batched

_LOG_FOLDER = 'inference_eval'


class InferenceEvaluator:
  """Evaluates the tasks of one dataset config with SeqIO's metrics.

  The loggers of the SeqIO evaluator write the results of a task to files in
  `<log_dir>/inference_eval/`.
  """

  def __init__(
    self,
    infer_eval_dataset_cfg: data.DatasetConfig,
    inference_evaluator_cls: Callable[..., seqio.Evaluator],
    model: models.BaseModel,
    partitioner: partitioning.BasePartitioner,
    log_dir: str | None = None,
    verify_matching_vocabs_fn: Callable[..., None]
    | None = data.verify_matching_vocabs,
  ):
    """Reads and keeps the examples to evaluate.

    Args:
      infer_eval_dataset_cfg: what to evaluate on; lengths may be None.
      inference_evaluator_cls: SeqIO's evaluator, or one like it.
      model: predicts and scores.
      partitioner: compiles inference for its mesh.
      log_dir: the run's folder; None writes no file.
      verify_matching_vocabs_fn: checks vocabularies, or None.
    """
    cfg = infer_eval_dataset_cfg
    provider = data.mixture_or_task(cfg)
    # Without a task, an evaluation would score nothing and say nothing.
    data.check_split(cfg)
    # Raises for a batch that the mesh doesn't divide.
    partitioner.get_data_layout(cfg.batch_size)
    if verify_matching_vocabs_fn is not None:
      verify_matching_vocabs_fn(cfg, model)
    data.check_lengths(
      cfg, model.FEATURE_CONVERTER_CLS, longest_by_default=True
    )
    self._model = model
    self._partitioner = partitioner
    self._batch_size = cfg.batch_size
    self._infer_fns: dict[str, batched.InferFnCallable] = {}
    log_folder = os.path.join(log_dir, _LOG_FOLDER) if log_dir else None
    if log_folder and jax.process_index() == 0:
      # Not every logger of SeqIO makes the folder that it writes to.
      tf.io.gfile.makedirs(log_folder)
    self._evaluator = inference_evaluator_cls(
      mixture_or_task_name=provider.name,
      feature_converter=model.FEATURE_CONVERTER_CLS(pack=False),
      eval_split=cfg.split,
      use_cached=cfg.use_cached,
      seed=data.shared_seed(cfg.seed),
      sequence_length=cfg.task_feature_lengths,
      log_dir=log_folder,
      use_memory_cache=cfg.use_memory_cache,
    )

  @property
  def model_feature_shapes(self) -> Mapping[str, tuple[int, ...]]:
    """Shapes of a global batch of the evaluation."""
    if not self.eval_tasks:
      return {}
    return {
      name: (self._batch_size, *shape)
      for name, shape in self._evaluator.model_feature_shapes.items()
    }

  @property
  def eval_tasks(self) -> Sequence[seqio.Task]:
    """The tasks that have metrics and the split."""
    return self._evaluator.eval_tasks

  def evaluate(
    self,
    train_state: train_state_lib.TrainState,
    train_state_axes: train_state_lib.TrainState,
    on_rows: Callable[[int, int], None] | None = None,
  ) -> seqio.evaluation.AllMetricsFuture:
    """Predicts and scores; the metrics come with the future.

    Args:
      train_state: the parameters, and the step that names the files.
      train_state_axes: mesh axes of the train state.
      on_rows: called with the rows that are done, of a batch, and with all rows
        of its task, which are negative if their number isn't known.

    Returns:
      A future of task name → metric name → value. On other processes than the
      first it gives None.
    """

    def bind(name: str):
      def infer(dataset):
        if name not in self._infer_fns:
          self._infer_fns[name] = batched.get_infer_fn(
            batched.infer_step(self._model, name),
            self._batch_size,
            train_state_axes,
            self._partitioner,
            padded_features=self._model.padded_features(name),
          )
        if on_rows is None:
          return self._infer_fns[name](dataset, train_state)
        total = int(dataset.cardinality())
        return self._infer_fns[name](
          dataset, train_state, on_rows=lambda done: on_rows(done, total)
        )

      return infer

    future, _ = self._evaluator.evaluate(
      compute_metrics=jax.process_index() == 0,
      step=int(train_state.step),
      predict_fn=bind('predict'),
      predict_with_aux_fn=bind('predict_with_aux'),
      score_fn=bind('score'),
    )
    return future

  def close(self) -> None:
    """Waits until all metrics are written."""
    self._evaluator.close()
