"""The reader of compiled programs."""

import numpy as np
import pytest

from dss_jax.plan import hlo
from tests.dss_jax.plan import program_text

SHAPE = '(bf16[2,3]{1,0:T(8,128)(2,1)S(1)}, /*index=1*/f32[], u32[]{:S(2)})'


def test_a_type_gives_its_arrays_with_their_memory_space():
  assert hlo.parse_shapes(SHAPE) == (
    hlo.Shape('bf16', (2, 3), 1),
    hlo.Shape('f32', ()),
    hlo.Shape('u32', (), 2),
  )
  assert [s.bytes for s in hlo.parse_shapes(SHAPE)] == [12, 4, 4]
  assert hlo.parse_shapes('s4[3]')[0].bytes == 2
  assert hlo.parse_shapes('f8e4m3fn[3]')[0].bytes == 3


def test_the_program_is_read_in_its_order_with_operands_and_calls():
  module = hlo.parse(program_text.LOOP)
  assert module.entry == 'main'
  assert set(module.computations) == {
    'product',
    'keep',
    'body',
    'condition',
    'main',
  }
  body = module.computations['body']
  assert list(body.instructions)[5:8] == ['gather', 'other', 'gathered']
  assert body.root == 'out'
  y = body.instructions['y']
  assert (y.opcode, y.operands) == ('fusion', ('other', 'gathered'))
  assert y.called('calls') == 'product'
  keep = module.computations['keep'].instructions['dus']
  assert keep.operands == ('q0', 'row', 'q2', 'zero', 'zero')


def test_text_without_an_entry_is_refused():
  with pytest.raises(ValueError, match='no ENTRY'):
    hlo.parse('HloModule nothing\n')


def _trips(text: str) -> int | None:
  module = hlo.parse(text)
  main = module.computations['main']
  return hlo.trip_count(module, main, main.instructions['loop'])


@pytest.mark.parametrize(
  ('old', 'new', 'trips'),
  [
    ('', '', 3),
    ('constant(3)', 'constant(8)', 8),
    ('%one = s32[]{:T(128)} constant(1)', '%one = s32[] constant(2)', 2),
    ('direction=LT', 'direction=LE', 4),
    ('direction=LT', 'direction=NE', 3),
    (
      'compare(%j, %limit), direction=LT',
      'compare(%limit, %j), direction=GT',
      3,
    ),
    ('%start = s32[]{:T(128)} constant(0)', '%start = s32[] constant(1)', 2),
    (
      'body=%body',
      'body=%body, backend_config={"known_trip_count":{"n":"7"}}',
      7,
    ),
    # The counter ends elsewhere than where the body reads it.
    ('tuple(%next, %other', 'tuple(%limitless, %other', None),
    ('direction=LT', 'direction=EQ', None),
  ],
)
def test_trips_of_a_loop_follow_from_its_text(old, new, trips):
  assert old in program_text.LOOP
  assert _trips(program_text.LOOP.replace(old, new, 1)) == trips


def test_a_limit_that_the_caller_hands_in_counts():
  text = program_text.LOOP.replace('bf16[4,32]', 's32[]')
  text = text.replace(
    '%limit = s32[]{:T(128)} constant(3)',
    ('%limit = s32[] get-tuple-element(%s), index=2'),
  )
  text = text.replace('%b = s32[]{1,0} parameter(1)', '%b = s32[] constant(5)')
  assert _trips(text) == 5


def _flops(line: str, *operands: str) -> int:
  lines = [
    f'  %o{i} = {shape} parameter({i})' for i, shape in enumerate(operands)
  ]
  text = '\n'.join(
    ['ENTRY %main () -> f32[] {', *lines, f'  ROOT %r = {line}', '}']
  )
  computation = hlo.parse(text).computations['main']
  return hlo.matmul_flops(computation, computation.instructions['r'])


def test_a_dot_counts_two_for_each_multiply_add():
  line = (
    'f32[5,2,4] dot(%o0, %o1), lhs_batch_dims={0}, lhs_contracting_dims={2}'
  )
  assert _flops(line, 'f32[5,2,3]', 'f32[5,3,4]') == 2 * 5 * 2 * 3 * 4


def test_the_padding_of_a_convolution_does_not_count():
  line = (
    'f32[1,6,1] convolution(%o0, %o1), window={size=3 pad=1_1},'
    ' dim_labels=b0f_0io->b0f'
  )
  # Six positions of three taps, two of which lie outside.
  assert _flops(line, 'f32[1,6,1]', 'f32[3,1,1]') == 2 * (6 * 3 - 2)


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('dilation', [1, 2])
@pytest.mark.parametrize('base', [1, 3])
@pytest.mark.parametrize('low', [0, 2])
def test_window_positions_are_counted_as_numpy_counts_them(
  stride, dilation, base, low
):
  extent, size, positions = 5, 3, 4
  window = {
    'size': size,
    'stride': stride,
    'low': low,
    'base': base,
    'dilation': dilation,
  }
  dilated = np.zeros((extent - 1) * base + 1)
  dilated[::base] = 1
  padded = np.pad(dilated, (low, 100))
  expected = sum(
    padded[o * stride + k * dilation]
    for o in range(positions)
    for k in range(size)
  )
  assert hlo._valid_pairs(extent, positions, window) == expected


def test_other_instructions_have_no_matrix_flops():
  assert _flops('f32[2] add(%o0, %o1)', 'f32[2]', 'f32[2]') == 0
