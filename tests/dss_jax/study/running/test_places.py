"""Tests of the places of a machine, with real cores and named GPUs."""

import os

import pytest

from dss_jax import errors
from dss_jax.study.running import places


@pytest.fixture
def machine(monkeypatch):
  """Returns a function that sets what the machine has."""

  def has(cores, gpus=None, tpu=False, visible=None):
    monkeypatch.delenv('JAX_PLATFORMS', raising=False)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    if visible is not None:
      monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible)
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(cores)))
    monkeypatch.setattr(places, 'gpu_names', lambda: gpus or {})
    monkeypatch.setattr(places, 'has_tpu', lambda: tpu)

  return has


def test_one_worker_has_the_machine(machine):
  machine(8)
  assert places.split(None) == places.split(1) == [places.Place()]


def test_workers_have_equally_many_cores_of_their_own(machine):
  machine(8)
  found = places.split(3)
  assert [place.cores for place in found] == [(0, 1), (2, 3), (4, 5)]
  assert [place.variables() for place in found] == [{}] * 3


def test_each_gpu_has_a_worker(machine):
  machine(8, {'0': 'H100', '1': 'H100'})
  found = places.split(None)
  assert [place.gpu for place in found] == ['0', '1']
  assert found[1].variables() == {'CUDA_VISIBLE_DEVICES': '1'}
  assert found[0].words() == '1 x H100'
  # One worker of a machine with two has the first alone.
  assert [place.gpu for place in places.split(1)] == ['0']


def test_only_visible_gpus_are_given_away(machine):
  machine(8, {'0': 'A', '1': 'B', '2': 'C'}, visible='2,0')
  assert [place.gpu for place in places.split(None)] == ['2', '0']
  machine(8, {'0': 'A'}, visible='')
  assert places.split(None) == [places.Place()]


def test_on_the_cpu_gpus_do_not_count(machine, monkeypatch):
  machine(2, {'0': 'A', '1': 'B'})
  monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
  assert places.split(None) == [places.Place()]
  assert [place.gpu for place in places.split(2)] == [None, None]
  assert places.Place().words().startswith('2 cores of ')


@pytest.mark.parametrize(
  ('has', 'count', 'message'),
  [
    ({'cores': 2}, 3, 'at most 2, a core for each'),
    ({'cores': 8, 'gpus': {'0': 'A'}}, 2, 'at most 1, a GPU for each'),
    ({'cores': 8, 'tpu': True}, 2, 'one process has all TPU chips'),
    ({'cores': 8}, -1, 'expected a number from 1'),
  ],
)
def test_more_than_there_is_is_refused(machine, has, count, message):
  machine(**has)
  with pytest.raises(errors.DataError, match=message):
    places.split(count)


def test_this_machine_is_named():
  assert places.Place((0,)).words().startswith('1 core of ')
  assert len(places.machine_kind()) == 12
