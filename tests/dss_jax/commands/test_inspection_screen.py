"""Examples on a terminal are broken between words; elsewhere they are whole."""

import numpy as np

from dss_jax.commands import inspection, inspection_screen

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
