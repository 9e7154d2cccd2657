"""The functions of commands, as configurations name them."""

import sys
import types

import gin
from t5x.cli import commands

_GIN = """
from __gin__ import dynamic_registration
import __main__ as train_script

train_script.train.steps = 3
"""


def train(steps):
  """As in `t5x.main` and `dss train`, whose function is t5x.train's."""
  return steps


def test_a_config_calls_a_function_the_main_modules_wherever_it_is_from(
  monkeypatch,
):
  main = types.ModuleType('main')
  main.train = train
  monkeypatch.setitem(sys.modules, '__main__', main)
  monkeypatch.setattr(train, '__module__', __name__)
  with_gin = commands.of_main_module(train)
  try:
    gin.parse_config(_GIN)
    assert with_gin() == 3
    written = gin.config_str()
  finally:
    gin.clear_config()
  lines = [line for line in written.splitlines() if line[:1] not in '#']
  assert lines == [line for line in _GIN.splitlines() if line]
