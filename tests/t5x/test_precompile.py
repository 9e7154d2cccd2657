"""Compiling ahead leaves the program, and no trained or read weights."""

from t5x import data, precompile
from tests.t5x import small_models, toy_task


def test_the_training_step_is_lowered_and_compiled(tmp_path, capsys):
  costs = precompile.precompile(
    model=small_models.TableModel(),
    train_dataset_cfg=data.DatasetConfig(
      mixture_or_task_name=toy_task.NAME,
      task_feature_lengths=toy_task.LENGTHS,
      split='train',
      batch_size=16,
      shuffle=True,
      seed=0,
    ),
    partitioner=small_models.partitioner(),
    model_dir=str(tmp_path),
    random_seed=0,
  )
  lowered = (tmp_path / 'lowered_hlo.txt').read_text()
  assert 'stablehlo' in lowered and 'tensor<16x6xi32>' in lowered
  # Each of the eight devices has two rows.
  assert 's32[2,6]' in (tmp_path / 'compiled_hlo.txt').read_text()
  assert costs['compilation_seconds'] > 0
  assert 'Lowered in' in capsys.readouterr().out
  assert not list(tmp_path.glob('checkpoint_*'))
