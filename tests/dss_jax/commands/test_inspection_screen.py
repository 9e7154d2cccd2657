"""What `dss data inspect` shows of examples and of shapes of rows."""

import io

import numpy as np
import rich.console

from dss_jax.commands import inspection, inspection_screen
from dss_jax.pipeline import row_shapes

_TEXT = 'predict: When will the lamp be here? Can you help? Thank you all.'


def test_examples_are_broken_between_words():
  example = inspection.Example(
    texts={'inputs': _TEXT}, tokens={'inputs': np.arange(1000, 1020)}
  )
  shown = inspection_screen._example(1, example, 40).splitlines()
  assert max(map(len, shown)) <= 40
  assert shown[1:3] == [
    '  inputs, 20 tokens: predict: When will',
    '    the lamp be here? Can you help?',
  ]
  whole = inspection_screen._example(1, example, None)
  assert f'  inputs, 20 tokens: {_TEXT}\n' in whole


def test_a_shape_that_is_given_is_shown_once():
  given, longer = (
    row_shapes.Fill(shape, 0.97, 0.9, examples)
    for shape, examples in (((256, 96), 5.0), ((512, 176), 9.9))
  )
  screen = io.StringIO()
  console = rich.console.Console(file=screen, width=80)
  # What suits a length of 256 is what was given.
  inspection_screen._show_shapes(console, given, [given._replace(), longer])
  lines = screen.getvalue().splitlines()
  (line,) = [line for line in lines if line.split()[:2] == ['256', '96']]
  assert '5.0' in line and 'as given' in line
  assert sum(line.split()[:2] == ['512', '176'] for line in lines) == 1
