"""CTranslate2 in float32 on a CPU, on rows of real lengths."""

import json
import pathlib
import subprocess

import ctranslate2
import numpy as np
import tokenizers

_SPECIAL = ('<pad>', '</s>', '<unk>')
_MARKS = dict(
  zip(('pad_token', 'eos_token', 'unk_token'), _SPECIAL, strict=True)
)


class Generator:
  """Answers in batches of rows of similar length, as CTranslate2 makes them."""

  def __init__(self, folder: str, vocab_size: int, converter: str):
    """Converts and loads a folder of weights.

    Args:
      folder: with `config.json` and weights; gets a tokenizer, which names each
        token by its number, and what the converter writes.
      vocab_size: tokens that the tokenizer names.
      converter: the program `ct2-transformers-converter`, which may stand in an
        environment of its own, with PyTorch and transformers.
    """
    self._names = [*_SPECIAL, *(f't{i}' for i in range(3, vocab_size))]
    place = pathlib.Path(folder)
    model = tokenizers.models.WordLevel(
      {name: i for i, name in enumerate(self._names)}, unk_token=_SPECIAL[2]
    )
    tokenizers.Tokenizer(model).save(str(place / 'tokenizer.json'))
    (place / 'tokenizer_config.json').write_text(
      json.dumps({'tokenizer_class': 'PreTrainedTokenizerFast', **_MARKS})
    )
    converted = place / 'ctranslate2'
    subprocess.run(
      [converter, '--model', folder, '--output_dir', str(converted)], check=True
    )
    self._translator = ctranslate2.Translator(
      str(converted), device='cpu', compute_type='float32', inter_threads=1
    )

  def answers(
    self, inputs: list[np.ndarray], batch_size: int, max_length: int
  ) -> list[np.ndarray]:
    """Returns the tokens of the answer to each input, EOS included."""
    results = self._translator.translate_batch(
      [[self._names[i] for i in row] for row in inputs],
      max_batch_size=batch_size,
      beam_size=1,
      max_decoding_length=max_length,
      return_end_token=True,
    )
    ids = {name: i for i, name in enumerate(self._names)}
    return [
      np.array([ids[name] for name in result.hypotheses[0]], np.int64)
      for result in results
    ]
