"""Vocabulary of the packaged sample: trains its SentencePiece model.

  python -m dss_jax.sample.vocabulary [--data_dir=FOLDER]

It is trained on what the model sees of the sample's train split: inputs with
their prefixes, rationales and labels. Each of their words becomes one piece;
other text falls back to shorter pieces, letters and bytes, so that nothing is
unknown. As in T5's vocabulary, ids are 0 padding, 1 end, 2 unknown, and a
newline is read as a space.
"""

import argparse
import glob
import io
import json
import os
from collections.abc import Iterator

import sentencepiece

from dss_jax import sample

VOCABULARY_SIZE = 1152
PREFIXES = ('predict: ', 'explain: ')


def sentences(data_dir: str) -> Iterator[str]:
  """Yields the texts that the vocabulary is trained on.

  Args:
    data_dir: the folder that holds `cqa/`.
  """
  folder = os.path.join(data_dir, 'cqa')
  with open(os.path.join(folder, 'cqa_train.json'), encoding='utf-8') as f:
    rows = [json.loads(line) for line in f]
  for row in rows:
    pairs = zip('abcde', row['choices'], strict=True)
    lines = [f'({x}) {c}' for x, c in pairs]
    text = ' '.join((row['question'], 'Answer Choices:', *lines))
    for prefix in ('', *PREFIXES):
      yield prefix + text
    yield row['answer']
  for path in sorted(glob.glob(os.path.join(folder, 'llm', 'train_CoT_*'))):
    with open(path, encoding='utf-8') as f:
      for completion in json.load(f):
        yield completion.split('\n')[0]


def train(data_dir: str) -> bytes:
  """Returns the serialized SentencePiece model for the sample in `data_dir`."""
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=sentences(data_dir),
    model_writer=model,
    # Merges continue until every word is one piece, which the pruning of a
    # unigram model would undo.
    model_type='bpe',
    vocab_size=VOCABULARY_SIZE,
    # The text may not yield that many pieces. One thread and no sampling, so
    # that training again gives the same pieces.
    hard_vocab_limit=False,
    num_threads=1,
    shuffle_input_sentence=False,
    # SentencePiece would split letters from brackets.
    user_defined_symbols=[f'▁({x})' for x in 'abcde'],
    byte_fallback=True,
    character_coverage=1.0,
    pad_id=0,
    eos_id=1,
    unk_id=2,
    bos_id=-1,
    minloglevel=2,
  )
  return model.getvalue()


def main() -> None:
  """Entry point of `python -m dss_jax.sample.vocabulary`."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--data_dir', default=sample.DATA_DIR)
  args = parser.parse_args()
  model = train(args.data_dir)
  path = os.path.join(args.data_dir, 'vocabulary', 'sentencepiece.model')
  os.makedirs(os.path.dirname(path), exist_ok=True)
  with open(path, 'wb') as f:
    f.write(model)
  print(path)


if __name__ == '__main__':
  main()
