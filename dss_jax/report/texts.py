"""Foreign texts of a page's data, each kept once and bounded."""

from dss_jax.report import page

_MOST_CHARACTERS = 1000


class Texts:
  """Texts by number.

  Attributes:
    numbers: of each text, as it is shown.
  """

  def __init__(self) -> None:
    """Has none."""
    self.numbers: dict[str, int] = {}

  def add(self, text: str | None) -> int:
    """Returns the number of a text; -1 for no text.

    Args:
      text: what somebody else wrote.
    """
    if not text:
      return -1
    text = page.visible(text, _MOST_CHARACTERS)
    return self.numbers.setdefault(text, len(self.numbers))
