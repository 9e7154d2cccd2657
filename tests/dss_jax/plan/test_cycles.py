"""What the compiler itself expects of a step."""

import math

import jax
import jax.numpy as jnp
import pytest

from dss_jax.errors import DataError
from dss_jax.plan import child, counting, cycles, hardware, program

TOPOLOGY = hardware.parse('v5e:2x2')


def test_a_compiler_that_expects_nothing_is_an_error():
  lowered = jax.jit(lambda x: x @ x).lower(jnp.ones((8, 8)))
  step = program.Step(lowered, lowered.compile, {}, 0, 0, 0, (1, 1), [(0, 0)])
  with pytest.raises(DataError, match='--exact: expected "estimated_cycles"'):
    cycles.expected(step, TOPOLOGY, 1)


def test_the_clock_is_that_at_which_matrix_units_reach_the_peak():
  for chip in hardware.TPUS.values():
    exponent = math.log2(chip.flops / chip.clock)
    assert exponent == pytest.approx(round(exponent), abs=0.01)


@pytest.mark.slow
def test_tpus_compiler_expects_more_time_than_the_peaks_take(tmp_path):
  pytest.importorskip('libtpu')
  options = {
    'gin_files': ['gin/dss_cqa.gin'],
    'gin_bindings': ['BATCH_SIZE = 16', 'LABELS_PER_STEP = None'],
    'topology': TOPOLOGY.name,
    'cache': str(tmp_path / 'plan.jsonl'),
  }
  candidate = vars(counting.Candidate(1, 2, 'full', 1, 16))
  with child.Child(options) as process:
    peaks = process.call('plan', candidate=candidate)
    found = process.call('plan', candidate=candidate, exact=True)
    again = process.call('plan', candidate=candidate, exact=True)
  assert found == again
  assert found['seconds'] > peaks['seconds']
  # The same program: it is only its clock that differs.
  for name in ('flops', 'hbm_bytes', 'collective_bytes', 'unknown_loops'):
    assert found[name] == peaks[name]
  stated = sum(part['estimated'] for part in found['parts'].values())
  assert 0.5 * found['seconds'] < stated <= found['seconds']
