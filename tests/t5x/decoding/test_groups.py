"""Groups of rows that are computed in turn."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x import adafactor, decoding, models
from t5x.examples.t5 import network
from tests import golden_data


def scaled(seen):
  def fn(tokens):
    seen.append(tokens.shape)
    return {'by': tokens * 2, 'sums': {'of': jnp.sum(tokens, 1)}}

  return fn


@pytest.mark.parametrize(
  'rows, devices, expected',
  [(48, 1, 16), (48, 2, 48), (16, 1, 16), (40, 1, 40)],
)
def test_a_lone_cpu_takes_sixteen_rows_at_a_time(
  rows, devices, expected, monkeypatch
):
  monkeypatch.setattr(jax, 'device_count', lambda: devices)
  tokens = jnp.arange(rows * 3).reshape(rows, 3)
  seen: list[tuple[int, int]] = []
  lowered = jax.jit(
    lambda tokens: decoding.in_groups(scaled(seen), tokens)
  ).trace(tokens)
  text = lowered.lower(lowering_platforms=('cpu',)).as_text()
  assert ('while' in text) == (rows > expected)
  assert min(shape[0] for shape in seen) == expected
  made = decoding.in_groups(scaled([]), tokens)
  np.testing.assert_array_equal(made['by'], tokens * 2)
  np.testing.assert_array_equal(made['sums']['of'], tokens.sum(1))


def test_a_program_for_another_platform_has_all_rows(monkeypatch):
  monkeypatch.setattr(jax, 'device_count', lambda: 1)
  tokens = jnp.ones((32, 3))
  traced = jax.jit(
    lambda tokens: decoding.in_groups(lambda x: jnp.sum(x, 1), tokens)
  ).trace(tokens)
  assert 'while' not in traced.lower(lowering_platforms=('tpu',)).as_text()


def test_rows_in_turn_are_decoded_as_all_at_once(monkeypatch):
  golden = golden_data.load('t5x_1_1')
  vocabulary = types.SimpleNamespace(eos_id=1, vocab_size=384)
  model = models.EncoderDecoderModel(
    network.Transformer(network.T5Config(**golden.config_kwargs)),
    vocabulary,
    vocabulary,
    adafactor.Adafactor(),
    decode_fn=decoding.temperature_sample,
  )
  rows = len(golden.batch['encoder_input_tokens'])
  batch = {
    name: np.tile(x, (-(-32 // rows), 1))[:32]
    for name, x in golden.batch.items()
  }
  calls = []
  in_groups = decoding.in_groups

  def counted(fn, tokens):
    calls.append(jax.device_count())
    return in_groups(fn, tokens)

  monkeypatch.setattr(decoding, 'in_groups', counted)
  answers = []
  for devices in (8, 1):
    monkeypatch.setattr(jax, 'device_count', lambda devices=devices: devices)
    answers.append(
      jax.jit(lambda *args: model.predict_batch_with_aux(*args))(
        golden.params, batch
      )
    )
  (tokens, aux), (in_turn, in_turn_aux) = answers
  assert calls == [8, 1]
  np.testing.assert_array_equal(in_turn, tokens)
  np.testing.assert_allclose(in_turn_aux['scores'], aux['scores'], rtol=1e-5)
