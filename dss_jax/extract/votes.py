"""Several samples of an input to one answer: self-consistency.

The label that most samples give is the answer (Wang et al. 2023); samples
without a label have no vote. Among labels with equally many votes, the one that
an earlier sample gave wins, so that the same samples always elect the same.
"""

import dataclasses
from collections.abc import Callable, Hashable, Sequence

from dss_jax.data import completions


@dataclasses.dataclass(frozen=True)
class Vote:
  """What the samples of an input agree on.

  Attributes:
    label: the elected label, '' where no sample has one.
    kept: which samples gave it, or all where none has one.
    agreement: the part of all samples that gave it.
  """

  label: str
  kept: tuple[int, ...]
  agreement: float


def elect(
  samples: Sequence[completions.Parsed],
  key: Callable[[str], Hashable] = lambda label: label,
) -> Vote:
  """Elects a label.

  >>> from dss_jax.teacher import Parsed
  >>> elect([Parsed('a', 'x'), Parsed('b', 'y'), Parsed('c', 'y')])
  Vote(label='y', kept=(1, 2), agreement=0.6666666666666666)

  Args:
    samples: rationales and labels, in the order of the samples.
    key: what equal labels have in common.
  """
  voters: dict[Hashable, list[int]] = {}
  for number, sample in enumerate(samples):
    if sample.label:
      voters.setdefault(key(sample.label), []).append(number)
  if not voters:
    return Vote('', tuple(range(len(samples))), 0.0)
  kept = max(voters.values(), key=len)
  return Vote(samples[kept[0]].label, tuple(kept), len(kept) / len(samples))
