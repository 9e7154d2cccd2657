"""The work of the benchmarks is as described."""

import argparse
import dataclasses
import statistics

import numpy as np
import pytest

from benchmarks import decode, engine, kinds, workload
from dss_jax.data import own_rows
from dss_jax.plan import counting


def test_rows_are_padded_as_the_converter_pads_them():
  (row,) = decode.rows_of([np.arange(3, 6)], [np.array([7, 1])], (5, 4))
  index, features = row
  assert index == 0
  assert {k: x.tolist() for k, x in features.items()} == {
    'encoder_input_tokens': [3, 4, 5, 0, 0],
    'decoder_target_tokens': [7, 1, 0, 0],
    'decoder_input_tokens': [0, 7, 1, 0],
    'decoder_loss_weights': [1, 1, 0, 0],
  }


def test_tokens_of_rows_and_of_their_batches_are_the_same():
  rows = workload.examples(32128, 64)
  batches = list(workload.packed_batches(rows, 1, (512, 256)))
  counts = [workload.real_tokens(batch) for batch in batches]
  in_batches = workload.together(counts)
  assert in_batches == workload.together(row.tokens for row in rows)
  assert in_batches.total == in_batches.encoder + in_batches.decoder
  first = rows[0]
  assert first.tokens == (
    first.predict.size + first.explain.size,
    first.label.size + first.rationale.size,
  )
  # What has no rationale is not asked for one.
  alone = dataclasses.replace(first, rationale=np.zeros(0, np.int32))
  assert alone.tokens == (first.predict.size, first.label.size)


def test_flops_are_those_of_the_plan_without_attention():
  emb_dim, heads, layers, mlp_dim = engine.SIZES['base']
  model = counting.Model(
    emb_dim, heads, 64, mlp_dim, 2, layers, layers, 32128, 512, 192, 0, 0
  )
  expected = 3 * (model.forward_flops() - model.attention_flops())
  found = engine.product_flops('base', workload.Tokens(512, 192))
  assert found == pytest.approx(expected, rel=1e-12)


def test_other_answers_are_counted():
  answers = [np.array([5, 1]), np.array([1]), np.array([4, 1])]
  others = [np.array([5, 1]), np.array([1, 1]), np.array([3, 1])]
  assert decode.different(answers, answers) == []
  assert decode.different(answers, others) == [1, 2]


@pytest.mark.slow
def test_answers_are_as_long_as_real_labels(monkeypatch):
  monkeypatch.setitem(engine.SIZES, 'tiny', (32, 2, 1, 32))
  monkeypatch.setattr(engine, 'VOCAB_SIZE', 512)
  examples = workload.examples(engine.VOCAB_SIZE, 128)
  inputs = [x.predict for x in examples]
  variables = decode.answering_variables('tiny', inputs)
  options = argparse.Namespace(size='tiny', dtype='float32', batch_size=128)
  rows = decode.rows_of(inputs, [x.label for x in examples], (512, 40))
  answers = decode.our_answers(options, variables, rows)()
  lengths = [len(x) for x in answers]
  assert abs(statistics.mean(lengths) - 2.94) < 0.4
  assert min(lengths) == 2 and max(lengths) <= 9
  assert all(x[-1] == 1 for x in answers)
  # They differ with the inputs.
  assert len(set(map(tuple, answers))) > 48


def test_rows_of_two_kinds_say_no_more_than_the_sample(tmp_path):
  kinds.write(tmp_path)
  own = own_rows.OwnData(
    str(tmp_path / 'train.jsonl'), kinds=('thought', 'elimination')
  )
  rows = own_rows.read(own).splits['train']
  assert all(row.more[0].endswith(f'so it is {row.label}.') for row in rows)
  assert rows[0].more[0].count('not ') == 4 and rows[0].rationale
