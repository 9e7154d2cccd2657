"""The report of a plan."""

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
FITS = search.Outcome(
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
    'hbm_bytes': 7e9,
    'parts': {
      'logits and loss': {'seconds': 0.5, 'products': 0.25, 'hbm_bytes': 7e9}
    },
    'collective_bytes': {'all-gather': 2e9, 'all-reduce': 1e3},
    'unknown_loops': 0,
  },
  COUNTED,
)
FAILS = search.Outcome(
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
REPORT = table.Report(counting.Workload(BASE, POD), example_tokens=128)


def test_what_parameters_are_split_over_is_said():
  for (dims, gather), said in (
    ((1, False), 'model'),
    ((2, False), 'data, model'),
    ((2, True), 'gathered'),
  ):
    candidate = counting.Candidate(
      1, dims, 'none', 1, 256, gather=gather, scan=False
    )
    row = dict(
      zip(
        table.HEADER,
        REPORT.row(search.Outcome(candidate, None, COUNTED)),
        strict=True,
      )
    )
    assert row['parameters'] == said
    assert row['layers'] == 'unrolled'


def test_utilization_is_of_model_flops_at_the_peak_of_all_chips():
  used = REPORT.utilization(256, 0.5)
  assert used == pytest.approx(
    3 * 256 * BASE.forward_flops() / 16 / 197e12 / 0.5
  )
  assert REPORT.token_rate(256, 0.5) == 256 * (512 + 256) / 0.5
  assert REPORT.example_rate(256, 0.5) == 256 * (512 + 256) / 0.5 / 128


def test_decoding_counts_an_example_per_row_and_its_target_tokens():
  workload = counting.Workload(BASE, POD, decode=True)
  report = table.Report(workload, example_tokens=128)
  assert report.token_rate(256, 0.5) == 256 * 256 / 0.5
  assert report.example_rate(256, 0.5) == 256 / 0.5


def test_a_row_shows_memory_by_kind_and_figures():
  cells = dict(zip(table.HEADER, REPORT.row(FITS), strict=True))
  assert cells['parameters'] == 'data, model'
  assert (cells['activ.'], cells['temp.'], cells['total']) == (
    '1.00',
    '2.00',
    '3.40',
  )
  assert cells['moved GB'] == '2'
  assert cells['TFLOP'] == '4'
  assert cells['HBM GB'] == '7'
  assert cells['layers'] == 'loop'
  assert cells['step s'] == '0.5'


def test_the_report_ends_with_the_gin_file_of_the_best():
  text = REPORT.text([FITS, FAILS])
  assert text.endswith(CANDIDATE.gin().rstrip())
  assert 'all-gather 2 GB' in text
  assert 'all-reduce' not in text.partition('Between chips')[2]
  assert '4.25 too much' in text


def test_the_report_says_where_the_time_goes_if_asked():
  report = table.Report(REPORT.workload, 128, why=True)
  line = next(
    line
    for line in report.text([FITS]).splitlines()
    if line.startswith('logits and loss')
  )
  assert line.split()[3:] == ['500.00', '100.0%', '250.00', '7.00']
  assert 'where the time goes' not in REPORT.text([FITS])


def test_the_report_says_what_the_compiler_itself_expects_if_asked():
  expected = {
    'seconds': 1.0,
    'parts': {'logits and loss': {'seconds': 1.0, 'estimated': 0.75}},
  }
  report = table.Report(REPORT.workload, 128, True, expected)
  text = report.text([FITS])
  used = report.utilization(256, 1.0)
  assert f'1 s per step (MFU {used:.0%}), of which it states 75%' in text
  assert '7.00      1000.00     75%' in text
  assert 'own estimates' not in REPORT.text([FITS])


def test_where_nothing_fits_the_report_says_by_how_much():
  text = REPORT.text([FAILS])
  assert 'needs 20.00 GiB per chip, 4.25 GiB more than the 15.75 GiB' in text
  assert 'network.T5Config' not in text


def test_a_gpu_is_reported_as_counted_only():
  workload = counting.Workload(BASE, hardware.parse('gpu:h200'))
  report = table.Report(workload, example_tokens=128)
  text = report.text([search.Outcome(CANDIDATE, None, COUNTED)])
  assert 'counted and not compiled' in text


def test_columns_are_aligned():
  lines = table.layout([('a', 'bb'), ('ccc', 'd')]).splitlines()
  assert lines == ['  a  bb', 'ccc   d']
