"""What a plan prints."""

from collections.abc import Mapping, Sequence
from typing import Any

from dss_jax.plan import counting, hardware, search

_GIB = hardware.GIB

HEADER = (
  'model',
  'parameters',
  'remat',
  'micro',
  'fits',
  'param.',
  'optim.',
  'activ.',
  'temp.',
  'total',
  'step s',
  'MFU',
  'TFLOP',
  'moved GB',
  'tokens/s',
  'ex./s',
)


def figures(
  model: counting.Model,
  topology: hardware.Topology,
  found: search.Found,
  example_tokens: int,
  decode: bool = False,
) -> Mapping[str, Any]:
  """Returns what a candidate gets to.

  Args:
    model: what is planned.
    topology: the chips.
    found: a candidate that fits.
    example_tokens: tokens of an example, of both sides; what a row holds of
      examples in training.
    decode: whether it is decoding, with an example a row.

  Returns:
    seconds, mfu (of the chips' peak), tokens and examples a second, collective
    bytes by kind.
  """
  result, rows = found.result, found.candidate.rows
  flops = model.decode_flops(rows) if decode else model.step_flops(rows)
  peak = topology.chip.flops * topology.count
  seconds = result['seconds']
  tokens = rows * (model.targets + (0 if decode else model.inputs)) / seconds
  return {
    'seconds': seconds,
    'mfu': flops / peak / seconds,
    'tokens': tokens,
    'examples': rows / seconds if decode else tokens / example_tokens,
    'collective_bytes': result['collective_bytes'],
  }


def row(
  model: counting.Model,
  topology: hardware.Topology,
  found: search.Found,
  example_tokens: int,
  decode: bool = False,
) -> tuple[str, ...]:
  """Returns the cells of a candidate, as `HEADER` names them."""
  candidate, result = found.candidate, found.result
  layout = (
    str(candidate.partitions),
    'data, model' if candidate.parameter_dims == 2 else 'model',
    candidate.remat,
    str(candidate.microbatches),
  )
  if result is None:
    counted = sum(found.counted.values())
    return (
      *layout,
      'counted',
      _gib(found.counted['parameters']),
      _gib(found.counted['optimizer']),
      _gib(found.counted['activations']),
      _gib(found.counted['gradients'] + found.counted['working']),
      _gib(counted),
      *[''] * 6,
    )
  memory = (_gib(result['parameters']), _gib(result['optimizer']))
  if not result['fits']:
    over = result['needed'] - result['limit']
    return (
      *layout,
      f'{_gib(over)} too much',
      *memory,
      '',
      '',
      _gib(result['needed']),
      *[''] * 6,
    )
  got = figures(model, topology, found, example_tokens, decode)
  # Of the compiler's temporary values, what the backward pass waits for is
  # known by arithmetic only.
  kept = min(found.counted['activations'], result['temporaries'])
  return (
    *layout,
    'yes',
    *memory,
    _gib(kept),
    _gib(result['temporaries'] - kept),
    _gib(result['needed']),
    _number(got['seconds']),
    f'{got["mfu"]:.0%}',
    _number(result['flops'] / 1e12),
    _number(sum(got['collective_bytes'].values()) / 1e9),
    _number(got['tokens']),
    _number(got['examples']),
  )


def _gib(size: float) -> str:
  return f'{size / _GIB:.2f}'


def _number(value: float) -> str:
  """Three digits that count, or all before the point."""
  return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'


def layout(rows: Sequence[Sequence[str]]) -> str:
  """Aligns cells in columns, numbers to the right."""
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return '\n'.join(
    '  '.join(
      cell.rjust(width) for cell, width in zip(cells, widths, strict=True)
    ).rstrip()
    for cells in rows
  )


def report(
  model: counting.Model,
  topology: hardware.Topology,
  founds: Sequence[search.Found],
  example_tokens: int,
  decode: bool = False,
) -> str:
  """Returns the whole text: what was planned, the table, and the best.

  Args:
    model: what is planned.
    topology: the chips.
    founds: from `search.search`, the best first.
    example_tokens: see `figures`.
    decode: whether it is decoding.
  """
  rows = founds[0].candidate.rows
  what = 'decoding' if decode else 'a training step'
  chip = topology.chip
  lines = [
    f'{model.parameter_bytes / 4e6:,.0f} million parameters, {what} of {rows}'
    f' rows of {model.inputs}/{model.targets} tokens on {topology.name}:'
    f' {topology.count} x {chip.hbm_bytes / _GIB:.0f} GiB,'
    f' {chip.flops / 1e12:.0f} TFLOP/s.',
    'Memory in GiB a chip; FLOPs and bytes moved between chips are those of one'
    ' chip and step. Times and MFU are those of chips that always run at their'
    ' peaks: no run is faster.',
    '',
    layout(
      [
        HEADER,
        *[row(model, topology, f, example_tokens, decode) for f in founds],
      ]
    ),
    '',
    *[f'{f.candidate}: {f.problem}' for f in founds if f.problem],
    *_verdict(model, topology, founds, example_tokens, decode),
  ]
  return '\n'.join(lines)


def _verdict(model, topology, founds, example_tokens, decode) -> list[str]:
  best = founds[0]
  if not topology.is_tpu:
    return [
      "XLA plans a GPU's memory only where there is one, so this is counted and"
      ' not compiled; leave a tenth of the memory free. On the machine itself,'
      ' python -m t5x.precompile compiles the step and says what it needs.'
    ]
  if not best.fits:
    smallest = best.result
    if smallest is None:
      return ['Nothing could be compiled.']
    over = smallest['needed'] - smallest['limit']
    return [
      f'Nothing fits: the smallest needs {_gib(smallest["needed"])} GiB a chip,'
      f' {_gib(over)} GiB more than the {_gib(smallest["limit"])} GiB there'
      ' are. Take more chips, or a smaller batch with --batch_size.'
    ]
  got = figures(model, topology, best, example_tokens, decode)
  kinds = ', '.join(
    f'{kind} {_number(size / 1e9)} GB'
    for kind, size in sorted(got['collective_bytes'].items())
    if size >= 1e6
  )
  lines = [
    f"Best: {_number(got['seconds'])} s a step at the chips' peaks (MFU"
    f' {got["mfu"]:.0%}).',
    f'Between chips: {kinds or "next to nothing"}.',
  ]
  if best.result['unknown_loops']:
    lines.append(
      'A loop ends when its data say so: it was taken to run to the last'
      ' target position.'
    )
  return [
    *lines,
    '',
    'Its gin file, to be given after the others:',
    '',
    best.candidate.gin(decode).rstrip(),
  ]
