"""What a model or a teacher wrote is read safely, whatever it is.

Every reader of such text is given arbitrary text, and pieces of the kind that
it looks for in any order. None may raise, take longer than 50 ms, or cause
anything to be compiled, executed, imported, opened or started.
"""

import random
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dss_jax.data import completions, equations
from dss_jax.pipeline import preprocessors
from dss_jax.pipeline.scoring import metrics

SECONDS = 0.05
PIECES = (
  'So the answer is', 'The answer is', 'Answer:', 'Premise:', 'Premise', 'Q:',
  '(a)', '(b) ', '(', ')', '.', '\n', ' ', 'é', '\ud800', '\x00', '٣', '9**',
  '**', '-', '+', '*', '/', '9' * 50, ' and ', '1,000', '1e9', '0x1', '_',
  '__import__("os").system("true")', 'exec("1")', '{0.__class__}', '%s',
  'entailment', 'x' * 500,
)  # fmt: skip
ARBITRARY = st.text(max_size=300) | st.lists(
  st.sampled_from(PIECES) | st.text(max_size=9), max_size=60
).map(''.join)
READERS = {
  'equation': equations.evaluate,
  'same value': lambda text: equations.same_value(text, text),
  'single target': preprocessors.answer_of,
  'scores': lambda text: metrics.for_labels(False, ('a', 'b'))([text], [text]),
  'scores by value': lambda text: metrics.for_labels(True)([text], [text]),
  **{
    f'teacher, {name}': lambda text, name=name: completions.parse(name, text)
    for name in completions.DATA_SETS
  },
}
# The audit events of running or reaching anything.
_FORBIDDEN = ('compile', 'exec', 'import', 'open', 'os.', 'subprocess.',
              'socket.', 'ctypes.', 'marshal.', 'pickle.')  # fmt: skip
_watched = []


def _watch(event, args):
  if _watched and event.startswith(_FORBIDDEN):
    _watched.append((event, str(args)[:80]))


# A hook cannot be removed: it does nothing but while something is watched.
sys.addaudithook(_watch)


def executed(read, text):
  """Returns what a reader caused, which should be nothing."""
  _watched.append('watching')
  try:
    read(text)
    return _watched[1:]
  finally:
    _watched.clear()


def seconds(read, text):
  """Returns the least time that this thread computed, of up to five tries."""
  least = float('inf')
  for _ in range(5):
    begin = time.thread_time()
    read(text)
    least = min(least, time.thread_time() - begin)
    if least < SECONDS:
      break
  return least


def test_what_is_executed_would_be_seen():
  assert executed(eval, '1 + 1')


@pytest.mark.parametrize('name', READERS)
@settings(max_examples=60, deadline=None)
@given(text=ARBITRARY)
def test_no_text_raises_hangs_or_is_executed(name, text):
  read = READERS[name]
  assert not executed(read, text)
  assert seconds(read, text) < SECONDS


def longest_equations():
  """Yields equations of full length that take the parser the longest."""
  drawn = random.Random(0)
  yield from ('(' * 999, '-' * 999 + '1', '9**' * 300 + '9', '1+' * 499 + '1')
  yield from ('9**64*' * 166 + '9', '+1/9**64' * 124, '(9**64)**20+' * 83 + '1')
  numbers = (drawn.randrange(10**8, 10**9) for _ in range(90))
  yield '+'.join(f'1/{number}' for number in numbers)
  yield '*'.join(['9' * 99] * 10)
  yield '9' * 1000


@pytest.mark.parametrize('text', list(longest_equations()))
def test_the_longest_equations_take_no_longer(text):
  assert not executed(equations.evaluate, text)
  assert seconds(equations.evaluate, text) < SECONDS


@pytest.mark.parametrize('data_set', completions.DATA_SETS)
@pytest.mark.parametrize('piece', ['(', '(a)', ' ', '.', '(a) So the answ'])
def test_completions_of_a_hundred_thousand_characters_take_no_longer(
  data_set, piece
):
  begin = 'Hm. So the answer is The answer is Answer:'
  text = begin + piece * (100_000 // len(piece))
  assert seconds(lambda t: completions.parse(data_set, t), text) < SECONDS
