"""Tests of what the commands of a study's runs come to."""

import pytest

from dss_jax import errors
from dss_jax.study import configuration


def test_a_vocabulary_that_is_nowhere_is_one_message_that_names_a_run():
  command = configuration.Command(
    'dss_f1_s0_base',
    ('gin/dss_cqa.gin', 'gin/sizes/base.gin'),
    {'VOCABULARY_FILE': "'file:///nowhere/spiece.model'"},
  )
  with pytest.raises(errors.DataError) as error:
    configuration._resolve_here([command])
  assert str(error.value).startswith(
    'The run dss_f1_s0_base: The vocabulary: expected a file of a vocabulary'
  )
  assert '/nowhere/spiece.model' in str(error.value)
