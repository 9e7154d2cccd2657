"""How a caller says which experiment it means."""

import pytest

from dss_jax import errors, mixtures


def test_an_experiment_takes_no_options_beside_it():
  experiment = mixtures.Experiment('cqa', data='sample')
  with pytest.raises(
    errors.DataError,
    match=r'train_mixture\.seed: expected no option .*Experiment\.seed'
    r' \(macro RANDOM_SEED\)',
  ):
    mixtures.train_mixture(experiment, seed=3)
