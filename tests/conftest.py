"""Runs every test on eight virtual CPU devices, with TensorFlow on the CPU."""

import os

import hypothesis

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = (
  os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=8'
)
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

# A loaded machine is no failure.
hypothesis.settings.register_profile('suite', deadline=None)
hypothesis.settings.load_profile('suite')
