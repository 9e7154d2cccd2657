"""Chips and topologies."""

import pytest

from dss_jax.errors import DataError
from dss_jax.plan import hardware


def test_a_topology_names_its_chips_and_their_number():
  found = hardware.parse('v5p:4x4x4')
  assert (found.chip.name, found.extents, found.count) == ('v5p', (4, 4, 4), 64)
  assert found.is_tpu
  assert found.chip.hbm_bytes == 95 * 2**30
  gpu = hardware.parse('gpu:h200')
  assert (gpu.count, gpu.is_tpu) == (1, False)


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('v5:4x4', r"Did you mean 'v5e'\?|Did you mean 'v5p'\?"),
    ('v5e', '2 directions'),
    ('v5e:4', '2 directions'),
    ('v5e:4x0', '2 directions'),
    ('v5p:4x4', r'3 directions.*v5p:2x2x1'),
    ('gpu:h20', r"Did you mean 'h200'\?"),
    ('', 'expected a TPU'),
  ],
)
def test_what_is_no_topology_is_refused(name, message):
  with pytest.raises(DataError, match=message):
    hardware.parse(name)


def test_a_closed_direction_is_a_ring_of_twice_the_bandwidth():
  pod = hardware.parse('v5e:16x16')
  link = pod.chip.link_bandwidth
  column = [(0, i, 0) for i in range(16)]
  assert pod.group_bandwidth(column) == 2 * link
  assert pod.group_bandwidth(column[:8]) == link
  everywhere = [(i, j, 0) for i in range(16) for j in range(16)]
  assert pod.group_bandwidth(everywhere) == 4 * link
  assert hardware.parse('v5e:4x4').group_bandwidth(everywhere[:4]) == link


def test_the_shortest_way_goes_round_a_ring():
  assert hardware.parse('v5e:16x16').distance((0, 0), (15, 3)) == 4
  assert hardware.parse('v5e:8x8').distance((0, 0), (7, 3)) == 10
