"""Runs tests on eight virtual CPU devices, with TensorFlow on the CPU.

`-m gpu` alone leaves JAX the devices that it finds.
"""

import gc
import importlib.util
import locale
import mmap
import os
import pathlib

import hypothesis
import pytest

os.environ['XLA_FLAGS'] = (
  os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=8'
)
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

# A loaded machine is no failure.
hypothesis.settings.register_profile(
  'suite',
  deadline=None,
  suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile('suite')

# What takes longest starts first, or one worker ends long after the other.
_LONG = (
  'tests/test_commands.py',
  'tests/test_experiments.py',
  't5x/trainer/test_invariance.py',
  'dss_jax/test_hf_parity.py',
  't5x/interactive_model/test_model.py',
  't5x/test_stock_gin.py',
)


# XLA's former way to write loops for a CPU, and all of a program in one piece,
# take a quarter of the time.
_QUICK = (
  '--xla_cpu_use_fusion_emitters=false',
  '--xla_cpu_parallel_codegen_split_count=1',
)


def pytest_configure(config):
  """Chooses the devices, before any test imports JAX.

  Compiles the default suite's programs, which run for milliseconds, faster.

  The slow tests, the commands as processes (test_commands.py) and the paper's
  step (test_hf_parity.py) have them optimised, as users do.
  """
  if config.getoption('markexpr') != 'gpu':
    os.environ['JAX_PLATFORMS'] = 'cpu'
  if config.getoption('markexpr') != 'not slow':
    return
  quick = os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', 'true')
  # Workers have what the first process asked for.
  if quick.lower() in ('1', 'true') and not hasattr(config, 'workerinput'):
    os.environ['XLA_FLAGS'] += ''.join(f' {flag}' for flag in _known_to_xla())


def _known_to_xla():
  """Those of `_QUICK` that this XLA has: others would end a process."""
  folder = pathlib.Path(importlib.util.find_spec('jaxlib').origin).parent
  for path in folder.glob('libjax_common*'):
    with (
      open(path, 'rb') as file,
      mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
      for flag in _QUICK:
        if content.find(flag.strip('-').partition('=')[0].encode()) >= 0:
          yield flag


@pytest.hookimpl(wrapper=True)
def pytest_collection():
  """Has garbage looked for among what tests make, not in what they import."""
  gc.disable()
  try:
    return (yield)
  finally:
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items):
  """Sorts the files; tests of one stay in their order."""
  items.sort(key=lambda item: not item.path.as_posix().endswith(_LONG))


@pytest.fixture
def plain_locale():
  """A system whose files are not of UTF-8 where a program doesn't say so."""
  before = locale.setlocale(locale.LC_CTYPE)
  locale.setlocale(locale.LC_CTYPE, 'C')
  yield
  locale.setlocale(locale.LC_CTYPE, before)
