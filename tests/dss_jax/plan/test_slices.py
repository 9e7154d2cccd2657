"""The files of gin/slices: layouts that `dss plan` chose."""

import pathlib
import re

import pytest

import gin
from dss_jax import run_config
from dss_jax.plan import counting, hardware
from t5x import partitioning
from t5x.examples.t5 import network

_ROOT = pathlib.Path(__file__).parents[3]
_SLICES = sorted((_ROOT / 'gin/slices').glob('*.gin'))
_PLANS = (_ROOT / 'docs/plans.md').read_text(encoding='utf-8')


def _planned(file: pathlib.Path) -> tuple[str, hardware.Topology, str, int]:
  """Returns what a file is for: size, slice, its text, and rows of a step."""
  size, _, name = file.stem.partition('_')
  topology = hardware.parse(name.replace('_', ':'))
  text = file.read_text(encoding='utf-8')
  return size, topology, text, int(text.split('BATCH_SIZE=')[1].split()[0])


def _candidate(text: str, rows: int) -> counting.Candidate:
  def value(name, default):
    found = re.search(rf'\.{name} = (.*)', text)
    return found.group(1).strip("'") if found else default

  return counting.Candidate(
    partitions=1,
    parameter_dims=int(value('parameter_partitioning_dims', '0')),
    remat=value('remat_policy', ''),
    microbatches=1,
    rows=rows,
    scan=value('scan_layers', '') == 'True',
    gather=value('gather_kernels', 'False') == 'True',
  )


@pytest.mark.parametrize('file', _SLICES, ids=lambda file: file.stem)
def test_a_slice_is_what_a_plan_writes_but_for_what_a_run_chooses(file):
  _, topology, text, rows = _planned(file)
  assert rows % topology.count == 0
  _, _, lines = text.partition('from __gin__')
  expected = [
    line
    for line in _candidate(text, rows).gin().splitlines()
    # NUM_PARTITIONS and NUM_MICROBATCHES are the run's.
    if 'num_partitions' not in line and 'trainer' not in line
  ]
  assert f'from __gin__{lines}'.splitlines() == expected


@pytest.mark.parametrize('file', _SLICES, ids=lambda file: file.stem)
def test_the_plans_of_the_docs_have_a_line_for_each_slice(file):
  size, topology, text, rows = _planned(file)
  percent = re.search(r'at most ([\d.]+%)', text).group(1)
  gib = re.search(r'([\d.]+) GiB a chip', text).group(1)
  chosen = _candidate(text, rows)
  layers = 'loop' if chosen.scan else 'unrolled'
  gathered = ', gathered' if chosen.gather else ''
  line = rf'\| {size}, {rows:,} \| {topology.name} \| '
  line += rf'{layers}, {chosen.remat}{gathered} \| {gib} \| .* \| {percent} \|'
  assert re.search(line, _PLANS)


def test_slices_are_heard_by_a_run():
  for name, gathers in (('base_v5e_2x2', True), ('large_v5e_4x4', False)):
    size = name.partition('_')[0]
    files = [
      *('gin/dss_cqa.gin', f'gin/sizes/{size}.gin', f'gin/slices/{name}.gin')
    ]
    with run_config.configured(files, []) as bound:
      config = run_config.resolve(bound, 'model').module.config
      rules = gin.get_bindings(partitioning.PjitPartitioner)
    assert isinstance(config, network.T5Config)
    assert (config.scan_layers, config.remat_policy) == (False, 'none')
    assert ('embed', 'data') in rules['logical_axis_rules']
    names = {name for name, _ in rules['logical_axis_rules']}
    assert ('gathered_embed' in names) == gathers
    assert rules['num_partitions'] == 1
