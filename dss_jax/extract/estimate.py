"""What an extraction asks for, and what it may cost, before it is spent."""

import array
import dataclasses
import math
from collections.abc import Collection

from dss_jax.extract import prompts
from dss_jax.extract import rows as rows_lib

# English text has about four characters a token in today's vocabularies.
CHARACTERS_A_TOKEN = 4.0


def tokens(characters: int) -> int:
  """Returns about how many tokens a text has."""
  return math.ceil(characters / CHARACTERS_A_TOKEN)


@dataclasses.dataclass(frozen=True)
class Prices:
  """Dollars for a million tokens; None where they are not known."""

  input: float | None = None
  output: float | None = None

  def cost(self, asked: int, answered: int) -> float | None:
    """Returns dollars for so many tokens, None without prices."""
    if self.input is None and self.output is None:
      return None
    return (asked * (self.input or 0) + answered * (self.output or 0)) / 1e6


@dataclasses.dataclass
class Survey:
  """What one look at all rows tells.

  Attributes:
    sizes: rows of each split.
    asked: rows of each split that are asked about.
    prompts: the fingerprint of what is or would be asked of each row, in order.
    longest: split and index of the longest prompt that is asked.
    tokens: about how many tokens these prompts have together.
    most: about how many the longest has.
  """

  sizes: dict[str, int] = dataclasses.field(default_factory=dict)
  asked: dict[str, int] = dataclasses.field(default_factory=dict)
  prompts: dict[str, array.array] = dataclasses.field(default_factory=dict)
  longest: tuple[str, int] | None = None
  tokens: int = 0
  most: int = 0

  def prompt(self, split: str, index: int) -> int | None:
    """Returns what is or would be asked of a row, None without such a row."""
    if index >= self.sizes.get(split, 0):
      return None
    return self.prompts[split][index]

  @property
  def total(self) -> int:
    """How many rows are asked about."""
    return sum(self.asked.values())


def survey(
  rows: rows_lib.Rows,
  prompt: prompts.Prompt,
  endpoint: str,
  splits: Collection[str],
  limit: int | None,
) -> Survey:
  """Reads all rows once, and checks those too that are not asked about.

  Args:
    rows: where they are.
    prompt: what is asked.
    endpoint: how.
    splits: which are asked about.
    limit: how many rows of a split are asked about at most.

  Raises:
    DataError: a row is malformed.
  """
  result = Survey()
  for split in rows.paths:
    most = (math.inf if limit is None else limit) if split in splits else 0
    found = array.array('Q')
    for row in rows.read(split):
      asked = prompt.ask(row.input, endpoint)
      found.append(prompts.fingerprint(asked))
      if row.index >= most:
        continue
      count = tokens(prompts.length(asked))
      result.tokens += count
      if count > result.most:
        result.most, result.longest = count, (split, row.index)
    result.sizes[split], result.prompts[split] = len(found), found
    result.asked[split] = int(min(most, len(found)))
  return result
