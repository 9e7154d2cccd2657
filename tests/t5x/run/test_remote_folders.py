"""A run's small files go where MODEL_DIR says, also to `gs://`."""

import types

import jax
import jax.numpy as jnp
import pytest
from etils import epath
from etils.epath import backend

from t5x import train, trainer
from t5x.run import identity as identity_lib

_RUN = 'gs://bucket/runs/a'


@pytest.fixture
def bucket(tmp_path, monkeypatch):
  """A folder that stands for `gs://bucket`; the run itself is elsewhere."""
  folder, elsewhere = tmp_path / 'bucket', tmp_path / 'here'
  folder.mkdir(), elsewhere.mkdir()
  monkeypatch.chdir(elsewhere)

  class Storage:
    """What epath asks for files on gs://."""

    def __getattr__(self, name):
      local = getattr(backend.os_backend, name)

      def called(*paths, **options):
        places = [str(p).replace('gs://bucket', str(folder)) for p in paths]
        return local(*places, **options)

      return called

  monkeypatch.setattr(backend, 'tf_backend', Storage())
  yield folder
  assert not list(elsewhere.iterdir()), 'A local folder named gs:'


def test_what_a_run_is_and_its_last_evaluation(bucket):
  epath.Path(_RUN).mkdir(parents=True)
  identity = {'seed': 3, 'data': {'batch_size': 8}, 'model': {}}
  identity_lib.check(_RUN, identity, accept=False)
  identity_lib.check(_RUN, identity, accept=False)
  assert (bucket / 'runs' / 'a' / 'run.json').exists()
  identity_lib.Evaluated(_RUN).remember(7)
  assert (bucket / 'runs' / 'a' / 'evaluated_step').read_text() == '7\n'
  assert not identity_lib.Evaluated(_RUN).is_missing(7)


def test_rows_of_a_step_that_was_not_applied(bucket):
  guard = trainer.NonFiniteGuard(None, _RUN, limit=3)
  batch = {'encoder_input_tokens': jnp.ones((2, 3), jnp.int32)}
  skipped = {trainer.SKIPPED: types.SimpleNamespace(total=1)}
  guard.after_step(5, skipped, jax.device_put(batch))
  (file,) = (bucket / 'runs' / 'a' / 'non_finite').iterdir()
  assert file.name == 'step_5.jsonl' and len(file.read_text().splitlines()) == 2


def test_the_folder_of_a_run(bucket):
  """It is made, and then the configuration is written to it."""

  def summarize(folder, *_):
    assert (bucket / 'runs' / 'a').is_dir()
    epath.Path(folder, 'config.gin').write_text('')
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    train.train(
      model=None,
      train_dataset_cfg=None,
      train_eval_dataset_cfg=None,
      infer_eval_dataset_cfg=None,
      checkpoint_cfg=None,
      partitioner=None,
      trainer_cls=None,
      model_dir=_RUN,
      total_steps=1,
      eval_steps=1,
      eval_period=1,
      random_seed=0,
      summarize_config_fn=summarize,
    )
