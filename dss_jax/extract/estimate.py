"""Estimate of an extraction's requests, tokens and cost, before it starts."""

import array
import dataclasses
import math
from collections.abc import Collection

from dss_jax.extract import prompts
from dss_jax.extract import rows as rows_lib

# English text has about four characters a token in today's vocabularies.
CHARACTERS_A_TOKEN = 4.0


def tokens(characters: int) -> int:
  """Returns about how many tokens a text of so many characters has."""
  return math.ceil(characters / CHARACTERS_A_TOKEN)


@dataclasses.dataclass(frozen=True)
class Prices:
  """Dollars for a million tokens; None if they are not known."""

  input: float | None = None
  output: float | None = None

  def cost(self, prompt: int, completion: int) -> float | None:
    """Returns dollars for so many tokens, None without prices."""
    if self.input is None and self.output is None:
      return None
    return (prompt * (self.input or 0) + completion * (self.output or 0)) / 1e6


@dataclasses.dataclass
class Survey:
  """Sizes, prompts and tokens of all rows.

  Attributes:
    sizes: the number of rows of each split.
    asked: how many of them are asked about.
    prompts: the fingerprints of the prompts of all rows, in order, including
      those that are not asked about.
    longest: split and index of the longest prompt that is asked.
    tokens: about how many tokens the prompts that are asked have together.
    most: about how many tokens the longest has.
  """

  sizes: dict[str, int] = dataclasses.field(default_factory=dict)
  asked: dict[str, int] = dataclasses.field(default_factory=dict)
  prompts: dict[str, array.array] = dataclasses.field(default_factory=dict)
  longest: tuple[str, int] | None = None
  tokens: int = 0
  most: int = 0

  def prompt(self, split: str, index: int) -> int | None:
    """Returns the fingerprint of a row's prompt, None without such a row."""
    if index >= self.sizes.get(split, 0):
      return None
    return self.prompts[split][index]

  @property
  def total(self) -> int:
    """The number of rows that are asked about."""
    return sum(self.asked.values())


def survey(
  rows: rows_lib.Rows,
  prompt: prompts.Prompt,
  endpoint: str,
  splits: Collection[str],
  limit: int | None,
) -> Survey:
  """Reads and checks all rows once, including those not asked about.

  Args:
    rows: the rows.
    prompt: the prompt of each row.
    endpoint: 'chat' or 'completion'.
    splits: the splits to ask about.
    limit: the most rows of a split to ask about; None for all.

  Raises:
    DataError: a row is malformed.
  """
  result = Survey()
  for split in rows.paths:
    most = (math.inf if limit is None else limit) if split in splits else 0
    fingerprints = array.array('Q')
    for row in rows.read(split):
      rendered = prompt.render(row.input, endpoint)
      fingerprints.append(prompts.fingerprint(rendered))
      if row.index >= most:
        continue
      count = tokens(prompts.length(rendered))
      result.tokens += count
      if count > result.most:
        result.most, result.longest = count, (split, row.index)
    result.prompts[split] = fingerprints
    result.sizes[split] = len(fingerprints)
    result.asked[split] = int(min(most, len(fingerprints)))
  return result
