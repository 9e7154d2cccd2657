"""What `dss ask` prints."""

import pytest

from dss_jax.student import command


@pytest.mark.parametrize('on_terminal', [True, False])
def test_a_rationale_is_broken_between_words_on_a_terminal(
  on_terminal, monkeypatch
):
  monkeypatch.setattr(command.sys.stdout, 'isatty', lambda: on_terminal)
  monkeypatch.setenv('COLUMNS', '40')
  line = '  rationale  The parcel is settled, but the lamp was charged twice.'
  expected = (
    '  rationale  The parcel is settled, but\n'
    '             the lamp was charged twice.'
  )
  shown = command._wrapped(line, 13)
  assert shown == (expected if on_terminal else line)
