"""What a plan prints."""

import pytest

from dss_jax.plan import counting, hardware, search, table
from tests.dss_jax.plan.test_counting import BASE

GIB = hardware.GIB
POD = hardware.parse('v5e:4x4')
CANDIDATE = counting.Candidate(1, 2, 'full', 2, 256)
COUNTED = {
  'parameters': 0.1 * GIB,
  'optimizer': 0.2 * GIB,
  'gradients': 0.1 * GIB,
  'activations': 1.0 * GIB,
  'working': 0.5 * GIB,
}
FITS = search.Found(
  CANDIDATE,
  {
    'fits': True,
    'parameters': 0.1 * GIB,
    'optimizer': 0.2 * GIB,
    'temporaries': 3 * GIB,
    'needed': 3.4 * GIB,
    'limit': 16 * GIB,
    'seconds': 0.5,
    'flops': 4e12,
    'collective_bytes': {'all-gather': 2e9, 'all-reduce': 1e3},
    'unknown_loops': 0,
  },
  COUNTED,
)
FAILS = search.Found(
  CANDIDATE,
  {
    'fits': False,
    'parameters': 0.1 * GIB,
    'optimizer': 0.2 * GIB,
    'needed': 20 * GIB,
    'limit': 15.75 * GIB,
  },
  COUNTED,
)


def test_utilisation_is_of_model_flops_at_the_peak_of_all_chips():
  got = table.figures(BASE, POD, FITS, example_tokens=128)
  assert got['mfu'] == pytest.approx(BASE.step_flops(256) / 16 / 197e12 / 0.5)
  assert got['tokens'] == 256 * (512 + 256) / 0.5
  assert got['examples'] == got['tokens'] / 128


def test_decoding_counts_an_example_a_row_and_its_target_tokens():
  got = table.figures(BASE, POD, FITS, example_tokens=128, decode=True)
  assert got['tokens'] == 256 * 256 / 0.5
  assert got['examples'] == 256 / 0.5


def test_a_row_shows_memory_by_kind_and_figures():
  cells = dict(zip(table.HEADER, table.row(BASE, POD, FITS, 128), strict=True))
  assert cells['parameters'] == 'data, model'
  assert (cells['activ.'], cells['temp.'], cells['total']) == (
    '1.00',
    '2.00',
    '3.40',
  )
  assert cells['moved GB'] == '2'
  assert cells['TFLOP'] == '4'
  assert cells['step s'] == '0.5'


def test_the_report_ends_with_the_gin_file_of_the_best():
  text = table.report(BASE, POD, [FITS, FAILS], 128)
  assert text.endswith(CANDIDATE.gin().rstrip())
  assert 'all-gather 2 GB' in text
  assert 'all-reduce' not in text.partition('Between chips')[2]
  assert '4.25 too much' in text


def test_where_nothing_fits_the_report_says_by_how_much():
  text = table.report(BASE, POD, [FAILS], 128)
  assert 'needs 20.00 GiB a chip, 4.25 GiB more than the 15.75 GiB' in text
  assert 'network.T5Config' not in text


def test_a_gpu_is_said_to_be_counted_only():
  gpu = hardware.parse('gpu:h200')
  text = table.report(BASE, gpu, [search.Found(CANDIDATE, None, COUNTED)], 128)
  assert 'counted and not compiled' in text


def test_columns_are_aligned():
  lines = table.layout([('a', 'bb'), ('ccc', 'd')]).splitlines()
  assert lines == ['  a  bb', 'ccc   d']
