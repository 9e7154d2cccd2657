"""Report of a plan: a table of candidates, and the best one."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from dss_jax.plan import counting, hardware, parts, search

_GIB = hardware.GIB

HEADER = (
  'rows', 'model', 'parameters', 'layers', 'remat', 'micro', 'fits', 'param.',
  'optim.', 'activ.', 'temp.', 'total', 'step s', 'MFU', 'TFLOP', 'HBM GB',
  'moved GB', 'tokens/s', 'ex./s',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Report:
  """A report.

  Attributes:
    workload: what is planned.
    example_tokens: tokens of an example, of both sides, which tell how many
      examples a row holds in training; in decoding it holds one.
    why: whether to say where the best one's time goes.
    expected: the best one's costs by the compiler's own estimates, if they were
      asked for.
  """

  workload: counting.Workload
  example_tokens: int
  why: bool = False
  expected: Mapping[str, Any] | None = None

  def of(self, candidate: counting.Candidate) -> 'Report':
    """Returns a report on a candidate's lengths of rows."""
    return dataclasses.replace(self, workload=self.workload.of(candidate))

  def utilization(self, rows: int, seconds: float) -> float:
    """MFU: model FLOPs as a part of the peak of all chips."""
    topology = self.workload.topology
    peak = topology.chip.flops * topology.count
    return self.workload.flops(rows) / peak / seconds

  def token_rate(self, rows: int, seconds: float) -> float:
    """Tokens per second; in decoding, those of the targets."""
    model = self.workload.model
    inputs = 0 if self.workload.decode else model.inputs
    return rows * (model.targets + inputs) / seconds

  def example_rate(self, rows: int, seconds: float) -> float:
    """Examples per second."""
    if self.workload.decode:
      return rows / seconds
    return self.token_rate(rows, seconds) / self.example_tokens

  def row(self, outcome: search.Outcome) -> tuple[str, ...]:
    """Returns the cells of a candidate, as `HEADER` names them."""
    candidate, result = outcome.candidate, outcome.result
    counted = outcome.counted
    model = self.workload.of(candidate).model
    cells = (
      f'{candidate.rows:,} x {model.inputs}/{model.targets}',
      str(candidate.partitions),
      ('model', 'data, model', 'gathered')[
        candidate.parameter_dims - 1 + candidate.gather
      ],
      'loop' if candidate.scan else 'unrolled',
      candidate.remat,
      str(candidate.microbatches),
    )
    if result is None:
      memory = (
        counted['parameters'],
        counted['optimizer'],
        counted['activations'],
        counted['gradients'] + counted['working'],
        outcome.size,
      )
      return (*cells, 'counted', *map(_gib, memory), *[''] * 7)
    state = _gib(result['parameters']), _gib(result['optimizer'])
    needed = _gib(result['needed'])
    if not result['fits']:
      over = _gib(result['needed'] - result['limit'])
      return (*cells, f'{over} too much', *state, '', '', needed, *[''] * 7)
    rows, seconds = candidate.rows, result['seconds']
    report = self.of(candidate)
    # Of the compiler's temporary values, what the backward pass waits for is
    # known by arithmetic only.
    kept = min(counted['activations'], result['temporaries'])
    return (
      *cells,
      'yes',
      *state,
      _gib(kept),
      _gib(result['temporaries'] - kept),
      needed,
      _number(seconds),
      f'{report.utilization(rows, seconds):.0%}',
      _number(result['flops'] / 1e12),
      _number(result['hbm_bytes'] / 1e9),
      _number(sum(result['collective_bytes'].values()) / 1e9),
      _number(report.token_rate(rows, seconds)),
      _number(report.example_rate(rows, seconds)),
    )

  def text(self, outcomes: Sequence[search.Outcome]) -> str:
    """Returns the whole report: what was planned, the table, and the best.

    Args:
      outcomes: the best first.
    """
    best = outcomes[0].candidate
    model, topology = self.of(best).workload.model, self.workload.topology
    rows = best.rows
    step = 'decoding' if self.workload.decode else 'a training step'
    return '\n'.join(
      (
        f'{model.count / 1e6:,.0f} million parameters, {step} of'
        f' {rows} rows of {model.inputs}/{model.targets} tokens on'
        f' {topology.name}: {topology.count} x'
        f' {topology.chip.hbm_bytes / _GIB:.0f} GiB,'
        f' {topology.chip.flops / 1e12:.0f} TFLOP/s.',
        'Memory in GiB per chip; FLOPs and bytes moved between chips are those'
        ' of one chip and step. Times and MFU are of chips that always run at'
        ' their peaks: no run is faster.',
        '',
        layout([HEADER, *map(self.row, outcomes)]),
        '',
        *[f'{o.candidate}: {o.problem}' for o in outcomes if o.problem],
        *self._verdict(outcomes[0]),
      )
    )

  def _verdict(self, best: search.Outcome) -> list[str]:
    if not self.workload.topology.is_tpu:
      return [
        "XLA plans a GPU's memory only where there is one, so this is counted"
        ' and not compiled; leave a tenth of the memory free. On the machine'
        ' itself, python -m t5x.precompile compiles the step and reports what'
        ' it needs.'
      ]
    result = best.result
    if result is None:
      return ['Nothing could be compiled.']
    if not best.fits:
      over = result['needed'] - result['limit']
      return [
        f'Nothing fits: the smallest needs {_gib(result["needed"])} GiB per'
        f' chip, {_gib(over)} GiB more than the {_gib(result["limit"])} GiB'
        ' available. Use more chips, or a smaller batch with --batch_size.'
      ]
    seconds = result['seconds']
    used = self.of(best.candidate).utilization(best.candidate.rows, seconds)
    kinds = ', '.join(
      f'{kind} {_number(size / 1e9)} GB'
      for kind, size in sorted(result['collective_bytes'].items())
      if size >= 1e6
    )
    loops = (
      'A loop ends when its data say so: it was assumed to run to the last'
      ' target position.'
    )
    return [
      f"Best: {_number(seconds)} s per step at the chips' peaks (MFU"
      f' {used:.0%}).',
      *self._expected(best.candidate),
      f'Between chips: {kinds or "next to nothing"}.',
      *([loops] if result['unknown_loops'] else []),
      '',
      *(self._why(result) if self.why else []),
      'Its gin file, to be given after the others:',
      '',
      best.candidate.gin(self.workload.decode).rstrip(),
    ]

  def _expected(self, best: counting.Candidate) -> list[str]:
    if self.expected is None:
      return []
    seconds = self.expected['seconds']
    used = self.of(best).utilization(best.rows, seconds)
    every = [parts.Part(**each) for each in self.expected['parts'].values()]
    stated = parts.total(every).estimated / seconds
    return [
      f"By the compiler's own estimates: {_number(seconds)} s per step (MFU"
      f' {used:.0%}), of which it states {stated:.0%}; the rest, above all'
      ' waiting for transfers and copies, is at the peaks.'
    ]

  def _why(self, result: search.Compiled) -> list[str]:
    expected = self.expected and self.expected['parts']
    cells = parts.lines(result['parts'], result['seconds'], expected)
    return [layout(cells, left=1), '']


def _gib(size: float) -> str:
  return f'{size / _GIB:.2f}'


def _number(value: float) -> str:
  """Three significant digits, or all before the point."""
  return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'


def layout(rows: Sequence[Sequence[str]], left: int = 0) -> str:
  """Aligns cells in columns, numbers to the right.

  Args:
    rows: of cells.
    left: how many columns are aligned to the left.
  """
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return '\n'.join(
    '  '.join(
      cell.ljust(width) if column < left else cell.rjust(width)
      for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ).rstrip()
    for cells in rows
  )
