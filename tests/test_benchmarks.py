"""The work of the benchmarks is what they say it is."""

import argparse
import statistics

import numpy as np

from benchmarks import decode, engine, workload


def test_answers_are_as_long_as_real_labels(monkeypatch):
  monkeypatch.setitem(engine.SIZES, 'tiny', (32, 2, 1, 32))
  examples = workload.examples(engine.VOCAB_SIZE, 256)
  inputs = [x.predict for x in examples]
  variables = decode.answering_variables('tiny', inputs)
  options = argparse.Namespace(size='tiny', dtype='float32', batch_size=256)
  rows = decode.rows_of(inputs, [x.label for x in examples], (512, 40))
  answers = decode.our_answers(options, variables, rows)()
  lengths = [len(x) for x in answers]
  assert abs(statistics.mean(lengths) - 2.94) < 0.4
  assert min(lengths) == 2 and max(lengths) <= 9
  assert all(x[-1] == 1 for x in answers)
  # They differ with the inputs.
  assert len(set(map(tuple, answers))) > 64
  changed = [*answers[:7], np.append(answers[7], 5), *answers[8:]]
  assert decode.different(answers, answers) == []
  assert decode.different(changed, answers) == [7]
