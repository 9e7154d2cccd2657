"""Estimated costs of a compiled program."""

import dataclasses

import pytest

from dss_jax.plan import costs, hardware, hlo
from tests.dss_jax.plan import program_text

TOPOLOGY = hardware.parse('v5e:2x2')
PLACES = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)]
HBM = TOPOLOGY.chip.hbm_bandwidth
LINK = TOPOLOGY.chip.link_bandwidth


def _estimate(
  text: str, unknown_trips: int = 1, clock: float = 0.0
) -> costs.Costs:
  return costs.Estimator(
    hlo.parse(text), TOPOLOGY, PLACES, unknown_trips, clock
  ).estimate()


def test_a_loops_body_counts_as_often_as_it_runs():
  found = _estimate(program_text.LOOP)
  # A product [8, 16] x [16, 32], three times.
  assert found.flops == 3 * 2 * 8 * 16 * 32
  # Three of four parts of [16, 32] in bfloat16, three times.
  assert found.collective_bytes['all-gather'] == 3 * 768
  # The sum of 1024 bytes over two chips: half is sent on, and half comes back.
  assert found.collective_bytes['all-reduce'] == 1024
  assert found.unknown_loops == 0


PRODUCT = max(2 * 8 * 16 * 32 / TOPOLOGY.chip.flops, (256 + 512) / HBM)
# Counter, row and slice.
TRAFFIC = 3 * (12 + 4 + 512 + 512) + 2 * 1024


def test_a_transfer_that_takes_longer_than_what_it_hides_behind_is_waited_for():
  gather = 768 / (2 * LINK)
  copy = (256 + 256) / HBM
  assert copy < gather
  assert _estimate(program_text.LOOP).seconds == pytest.approx(
    3 * (gather + PRODUCT) + TRAFFIC / HBM + 1024 / LINK, rel=1e-9
  )


def test_a_transfer_is_hidden_behind_work_that_takes_longer():
  chip = dataclasses.replace(TOPOLOGY.chip, link_bandwidth=100 * HBM)
  found = costs.Estimator(
    hlo.parse(program_text.LOOP),
    dataclasses.replace(TOPOLOGY, chip=chip),
    PLACES,
  ).estimate()
  copy = (256 + 256) / HBM
  assert found.seconds == pytest.approx(
    3 * (copy + PRODUCT) + TRAFFIC / HBM + 1024 / (100 * HBM), rel=1e-9
  )


def _carried(middle: str) -> costs.Costs:
  text = program_text.CARRIED
  assert 'MIDDLE' in text
  return _estimate(text.replace('MIDDLE', middle))


def test_a_gathering_that_fusions_carry_on_is_one_transfer_beside_their_work():
  found = _carried('%carry')
  # Three of four parts of [512, 512] in bfloat16, once, not in each fusion.
  gathered = 512 * 512 * 2
  assert found.collective_bytes == {'all-gather': 0.75 * gathered}
  assert found.flops == 2 * 4096 * 512 * 512
  # What the transfer writes is not the carrying fusion's traffic.
  read_and_written = 2 * 4096 * 512 * 2 + gathered
  assert found.hbm_bytes == read_and_written
  gather = 0.75 * gathered / (2 * LINK)
  product = max(found.flops / TOPOLOGY.chip.flops, read_and_written / HBM)
  assert product > gather
  assert found.seconds == pytest.approx(product, rel=1e-9)


def test_a_gathering_may_be_carried_on_in_a_loop():
  text = program_text.CARRIED.replace('MIDDLE', '%carry')
  state = (
    '(s32[], bf16[128,512]{1,0:S(1)}, bf16[512,512]{1,0}, u32[]{:S(2)},'
    ' bf16[4096,512]{1,0}, bf16[512,512]{1,0})'
  )
  elements = '\n'.join(
    f'  %e{i} = {shape} get-tuple-element(%state), index={i}'
    for i, shape in enumerate(
      ('s32[]', 'bf16[128,512]{1,0:S(1)}', 'bf16[512,512]', 'u32[]{:S(2)}')
      + ('bf16[4096,512]', 'bf16[512,512]')
    )
  )
  head, entry, main = text.partition('ENTRY')
  lines = main.splitlines()
  at = next(i for i, line in enumerate(lines) if 'calls=%carry' in line)
  fusion = lines[at].replace('%s0, %s1, %s2, %x, /*index=4*/%w', 'ARGS')
  fusion = fusion.replace('ARGS', '%e1, %e2, %e3, %e4, %e5')
  body = (
    f'%body (state: {state}) -> {state} {{\n  %state = {state} parameter(0)\n'
    f'{elements}\n{fusion}\n'
    f'  ROOT %out = {state} tuple(%e0, %e1, %e2, %e3, %e4, %e5)\n}}\n\n'
  )
  lines[at] = (
    '  %zero = s32[] constant(0)\n'
    f'  %init = {state} tuple(%zero, %s0, %s1, %s2, %x, %w)\n'
    f'  %m = {state} while(%init), condition=%body, body=%body,'
    ' backend_config={"known_trip_count":{"n":"5"}}'
  )
  found = _estimate(head + body + entry + '\n'.join(lines))
  assert found.collective_bytes == {'all-gather': 0.75 * 512 * 512 * 2}
  assert found.flops == 5 * 2 * 4096 * 512 * 512


def test_the_program_waits_where_such_a_gathering_ends():
  # Little to do meanwhile.
  found = _carried('%tiny')
  assert found.seconds == pytest.approx(
    0.75 * 512 * 512 * 2 / (2 * LINK), rel=1e-9
  )


def test_a_transfer_that_nothing_waits_for_ends_with_its_computation():
  text = program_text.CARRIED.replace('MIDDLE', '%tiny')
  lines = [line for line in text.splitlines() if 'calls=%done' not in line]
  found = _estimate('\n'.join(lines))
  assert found.seconds == pytest.approx(
    0.75 * 512 * 512 * 2 / (2 * LINK), rel=1e-9
  )


def test_a_slice_that_a_fusion_within_a_fusion_reads_is_all_that_is_read():
  text = """
%cut (a: f32[24,100], i: s32[]) -> f32[1,100] {
  %a = f32[24,100] parameter(0)
  %i = s32[] parameter(1)
  ROOT %d = f32[1,100] dynamic-slice(%a, %i, %i), dynamic_slice_sizes={1,100}
}

%outer (b: f32[24,100], j: s32[]) -> f32[1,100] {
  %b = f32[24,100] parameter(0)
  %j = s32[] parameter(1)
  %f = f32[1,100] fusion(%b, %j), kind=kLoop, calls=%cut
  ROOT %n = f32[1,100] negate(%f)
}

ENTRY %main (x: f32[24,100], k: s32[]) -> f32[1,100] {
  %x = f32[24,100] parameter(0)
  %k = s32[]{:S(2)} parameter(1)
  ROOT %r = f32[1,100] fusion(%x, %k), kind=kLoop, calls=%outer
}
"""
  assert _estimate(text).hbm_bytes == 400 + 400


def test_a_loop_without_a_known_end_counts_as_told():
  text = program_text.LOOP.replace('direction=LT', 'direction=EQ')
  once, often = _estimate(text), _estimate(text, unknown_trips=5)
  assert (once.unknown_loops, often.unknown_loops) == (1, 1)
  assert often.flops == 5 * once.flops


def _operation(line: str, *operands: str) -> costs.Costs:
  lines = [
    f'  %o{i} = {shape} parameter({i})' for i, shape in enumerate(operands)
  ]
  return _estimate(
    '\n'.join(['ENTRY %main () -> f32[] {', *lines, f'  ROOT %r = {line}', '}'])
  )


def test_neighbors_on_both_sides_send_at_the_same_time():
  pair = '\n'.join(
    [
      '  %{0} = (f32[9]{{0}}, f32[9]{{0}}) collective-permute-start(%o0),'
      ' source_target_pairs={1}',
    ]
  )
  there = pair.format('a', '{{0,1},{2,3}}')
  back = pair.format('b', '{{1,0},{3,2}}')
  waits = [f'  %{n}d = f32[9]{{0}} collective-permute-done(%{n})' for n in 'ab']
  head = ['ENTRY %main () -> f32[] {', '  %o0 = f32[9] parameter(0)']
  both = _estimate('\n'.join([*head, there, back, *waits, '}']))
  same = _estimate(
    '\n'.join([*head, there, there.replace('%a', '%b'), *waits, '}'])
  )
  assert both.seconds == pytest.approx(36 / LINK)
  assert same.seconds == pytest.approx(2 * 36 / LINK)
  assert both.collective_bytes == {'collective-permute': 72.0}


def test_a_permutation_over_two_links_takes_twice_as_long():
  found = _operation(
    'f32[9]{0} collective-permute(%o0), source_target_pairs={{0,3}}', 'f32[9]'
  )
  assert found.seconds == pytest.approx(2 * 36 / LINK)


def test_values_in_the_chips_fast_memory_are_no_traffic():
  found = _operation('f32[8]{0:S(1)} add(%o0, %o1)', 'f32[8]', 'f32[8]{0:S(1)}')
  assert found.hbm_bytes == 32


def test_a_copy_between_memories_goes_on_beside_the_program():
  text = '\n'.join(
    [
      'ENTRY %main () -> f32[] {',
      '  %o0 = f32[100] parameter(0)',
      '  %c = (f32[100]{0:S(1)}, f32[100]{0}, u32[]) copy-start(%o0)',
      '  %w = f32[50] negate(%o0)',
      '  ROOT %d = f32[100]{0:S(1)} copy-done(%c)',
      '}',
    ]
  )
  found = _estimate(text)
  assert found.seconds == pytest.approx(600 / HBM)
  assert found.hbm_bytes == 400 + 600


def test_the_dearest_branch_counts():
  branch = (
    '%{0} (p: f32[{1}]) -> f32[{1}] {{\n'
    '  %p = f32[{1}] parameter(0)\n'
    '  ROOT %n = f32[{1}] negate(%p)\n}}\n'
  )
  text = branch.format('one', 10) + branch.format('two', 1000)
  text += '\n'.join(
    [
      'ENTRY %main () -> f32[] {',
      '  %i = s32[] parameter(0)',
      '  %x = f32[10] parameter(1)',
      '  ROOT %c = f32[] conditional(%i, %x, %x),'
      ' branch_computations={%one, %two}',
      '}',
    ]
  )
  assert _estimate(text).hbm_bytes == 8000


def test_parts_and_waiting_are_all_of_the_time():
  found = _estimate(program_text.LOOP)
  gather = 768 / (2 * LINK)
  # A copy hides a part of each gathering, and nothing the sum.
  copy = (256 + 256) / HBM
  assert 'waiting for copies' not in found.parts
  assert found.parts['waiting for transfers'].seconds == pytest.approx(
    3 * (gather - copy) + 1024 / LINK, rel=1e-9
  )
  total = sum(part.seconds for part in found.parts.values())
  assert total == pytest.approx(found.seconds, rel=1e-9)
  products = sum(part.products for part in found.parts.values())
  assert products == pytest.approx(found.flops / TOPOLOGY.chip.flops, rel=1e-9)


KERNEL = """HloModule kernel

ENTRY %main (a: bf16[64,256], b: bf16[64,256]) -> bf16[64,256] {
  %a = bf16[64,256]{1,0} parameter(0)
  %b = bf16[64,256]{1,0:S(1)} parameter(1)
  %lists = bf16[64,256]{1,0} custom-call(%a), custom_call_target="ConcatBitcast", backend_config={"aliasing_operands":{"lists":[]}}
  ROOT %kernel = bf16[64,256]{1,0} custom-call(%lists, %b), custom_call_target="tpu_custom_call", metadata={op_name="jit(step)/encoder/attention/pallas_call"}, backend_config={"custom_call_config":{"body":"TUz==","cost_estimate":{"bytes_accessed":"131072","flops":"4000000","remote_bytes_transferred":"0","transcendentals":"7"},"needs_layout_passes":true},"used_scoped_memory_configs":[]}
}
"""  # noqa: E501


def test_a_kernel_costs_what_it_says_of_itself():
  found = _estimate(KERNEL)
  assert found.flops == 4_000_000
  # It says 131,072 bytes, of which an operand is not in main memory.
  assert found.hbm_bytes == 131_072 - 64 * 256 * 2
  products = found.flops / TOPOLOGY.chip.flops
  part = found.parts['encoder self-attention']
  assert part.products == pytest.approx(products)
  assert part.seconds == found.seconds == max(products, found.hbm_bytes / HBM)
  # One that says nothing is free.
  assert _estimate(KERNEL.replace('cost_estimate', 'other')).seconds == 0


def test_a_fusion_belongs_to_the_part_of_its_product():
  name = 'metadata={op_name="jit(step)/transpose(jvp(T))/decoder/mlp/wo/dot"}'
  text = program_text.CARRIED.replace('MIDDLE', '%carry')
  lines = [
    f'{line}, {name}' if ' convolution(' in line or ' dot(' in line else line
    for line in text.splitlines()
  ]
  assert any(name in line for line in lines)
  found = _estimate('\n'.join(lines))
  assert found.parts['decoder feed-forward'].products == pytest.approx(
    found.flops / TOPOLOGY.chip.flops
  )


def test_with_a_clock_an_instruction_takes_the_cycles_that_are_expected_of_it():
  stated = (
    'calls=%product, backend_config={"window_config":{"kernel":[],'
    '"estimated_cycles":"300"}}'
  )
  text = program_text.LOOP.replace('calls=%product', stated)
  assert stated in text
  # The product runs three times; the peaks don't care for what is stated.
  peaks, found = _estimate(text), _estimate(text, clock=1e9)
  assert peaks == _estimate(program_text.LOOP)
  assert sum(part.estimated for part in peaks.parts.values()) == 0
  assert sum(part.estimated for part in found.parts.values()) == pytest.approx(
    3 * 300e-9
  )
  assert found.seconds == pytest.approx(
    peaks.seconds + 3 * (300e-9 - PRODUCT), rel=1e-9
  )
  total = sum(part.seconds for part in found.parts.values())
  assert total == pytest.approx(found.seconds, rel=1e-9)
  assert (found.flops, found.hbm_bytes) == (peaks.flops, peaks.hbm_bytes)
