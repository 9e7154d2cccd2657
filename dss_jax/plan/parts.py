"""Where the time of a step goes: by part of the network, and waiting.

An instruction belongs to the part that its name in the program says, which
JAX writes from the modules and functions that it was made by; one that merges
several belongs to the part of its matrix product, or else of its result:

    jit(step)/transpose(jvp(Transformer))/decoder/layers_3/mlp/wi_0/dot_general

is of the part 'decoder feed-forward'.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping

LINKS = 'waiting for transfers'
COPIES = 'waiting for copies'
WAITS = (LINKS, COPIES)

# The first of these that a name contains tells the part, within its stack.
_INSIDE = {
  'encoder_decoder_attention': 'cross attention',
  'self_attention': 'self-attention',
  'attention': 'self-attention',
  'mlp': 'feed-forward',
  'relpos_bias': 'position biases',
  'logits_dense': 'logits',
  'loss': 'loss',
  'dropout': 'dropout and residuals',
}
_NAMES = re.compile(r'\w+')


@dataclasses.dataclass
class Part:
  """What a part of the network takes on one chip.

  Attributes:
    seconds: all of it, at the chip's peaks.
    products: those seconds that its matrix products take alone.
    hbm_bytes: read and written in main memory.
    estimated: those seconds that the compiler's own estimates say, in place of
      the peaks.
  """

  seconds: float = 0.0
  products: float = 0.0
  hbm_bytes: float = 0.0
  estimated: float = 0.0

  def add(self, other: 'Part', times: int = 1) -> None:
    """Adds what is done several times."""
    self.seconds += times * other.seconds
    self.products += times * other.products
    self.hbm_bytes += times * other.hbm_bytes
    self.estimated += times * other.estimated


def name(attributes: str) -> str:
  """Returns the part that an instruction belongs to.

  Args:
    attributes: of the instruction, with XLA's metadata.
  """
  found = re.search(r'op_name="([^"]*)"', attributes)
  if not found:
    return 'without a name'
  words = _NAMES.findall(found.group(1))
  inside = next((part for word, part in _INSIDE.items() if word in words), '')
  if inside in ('loss', 'logits'):
    return 'logits and loss'
  if 'token_embedder' in words:
    # Which is the decoder's too, where both tables are one.
    return 'logits and loss' if 'attend' in words else 'embedding'
  stack = next((word for word in ('encoder', 'decoder') if word in words), '')
  if stack:
    return f'{stack} {inside or "norms and the rest"}'
  return 'optimizer and the rest'


_HEADER = ('where the time goes', 'ms', 'share', 'products ms', 'HBM GB')
_EXPECTED = ('compiler ms', 'stated')


def lines(
  parts: Mapping[str, Mapping[str, float]],
  seconds: float,
  expected: Mapping[str, Mapping[str, float]] | None = None,
) -> list[tuple[str, ...]]:
  """Returns cells: a head, the parts that take most first, and the sum.

  Args:
    parts: name to the fields of a `Part`.
    seconds: of the step.
    expected: the same by the compiler's own estimates, for two more columns:
      the time of a part, and how much of it the compiler states.
  """
  peaks = {label: Part(**fields) for label, fields in parts.items()}
  exact = {label: Part(**fields) for label, fields in (expected or {}).items()}
  peaks['all'], exact['all'] = total(peaks.values()), total(exact.values())
  # Waiting, for example, may be in one of both only.
  labels = sorted(
    {**peaks, **exact},
    key=lambda label: (label == 'all', -peaks.get(label, Part()).seconds),
  )
  rows: list[tuple[str, ...]] = [
    _HEADER if expected is None else (*_HEADER, *_EXPECTED)
  ]
  for label in labels:
    part, other = peaks.get(label, Part()), exact.get(label, Part())
    if max(part.seconds, other.seconds) >= 0.0005 * seconds:
      cells = _cells(label, part, seconds)
      rows.append(cells if expected is None else (*cells, *_stated(other)))
  return rows


def total(parts: Iterable[Part]) -> Part:
  """Returns the sum of parts."""
  result = Part()
  for part in parts:
    result.add(part)
  return result


def _cells(label: str, part: Part, seconds: float) -> tuple[str, ...]:
  return (
    label,
    f'{part.seconds * 1e3:.2f}',
    f'{part.seconds / seconds:.1%}',
    f'{part.products * 1e3:.2f}' if part.products else '',
    f'{part.hbm_bytes / 1e9:.2f}' if part.hbm_bytes else '',
  )


def _stated(part: Part) -> tuple[str, str]:
  if not part.seconds:
    return '', ''
  return f'{part.seconds * 1e3:.2f}', f'{part.estimated / part.seconds:.0%}'
