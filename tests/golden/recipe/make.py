"""Makes the files of this folder: the published recipe, run by torch alone.

A loop of our own with the real torch, transformers and tokenizers, which shares
no code with this project: it reads files in the published layout, splits them,
parses completions, makes tokens and padded batches, and trains on pairs. The
numbers are facts about these programs: make them again only for other rows.
Made with torch 2.13.0 and transformers 4.57.6, as `python make.py`. Other rows
and sizes: `python make.py --help`.
"""

import argparse
import json
import math
import pathlib
import re

import numpy as np
import sentencepiece
import tokenizers
import torch
import transformers
from sentencepiece import sentencepiece_model_pb2

HERE = pathlib.Path(__file__).parent
SETS = ('cqa', 'svamp')
PHRASES = {'cqa': 'So the answer is', 'svamp': 'The answer is'}
# What the published code has where a completion can't be read.
BLANK = ' '


# ---- Rows --------------------------------------------------------------------


def write_rows(folder, count=24):
  """Writes small made-up rows in the published layout."""
  things = ['cup', 'boat', 'drum', 'lamp', 'rope', 'sled', 'harp', 'tent']
  places = ['shelf', 'harbor', 'stage', 'desk', 'cellar', 'hill']
  for name, lines in (
    ('cqa', [cqa_row(i, things, places) for i in range(count)]),
    ('svamp', [svamp_row(i, things) for i in range(count)]),
  ):
    inner = folder / name
    (inner / 'llm').mkdir(parents=True, exist_ok=True)
    for split, part in (('train', lines), ('test', lines[:3])):
      text = ''.join(json.dumps(row) + '\n' for row, _ in part)
      (inner / f'{name}_{split}.json').write_text(text)
      said = json.dumps([completion for _, completion in part], indent=0)
      (inner / 'llm' / f'{split}_CoT_0.json').write_text(said + '\n')


def cqa_row(i, things, places):
  thing, place = things[i % 8], places[i % 6]
  choices = [places[(i + k) % 6] for k in (2, 0, 1, 4, 3)]
  row = {
    'id': f'made{i}',
    'question': f'Where does someone with {i + 2} hands keep a {thing}?',
    'choices': choices,
    'answer': place,
  }
  letter = 'abcde'[choices.index(place)]
  said = f'A {thing} is kept near a {place}. ' + 'It stays dry there. ' * (
    i % 3
  )
  said += f'So the answer is ({letter}) {place}.'
  if i % 7 == 3:
    said = f'Nobody can say where a {thing} is.'
  elif i % 7 == 5:
    said = f'A {thing} fits nowhere. So the answer is none of these.'
  return row, said + '\n\nQ: What else?'


def svamp_row(i, things):
  thing, a, b = things[i % 8], 3 + i, 2 + i % 5
  asked = f'How many {thing}s are there?'
  row = {
    'input': f'Ida has {a} {thing}s and finds {b}.\n{asked}',
    'label': f'( {a}.0 + {b}.0 )',
  }
  said = f'She had {a} and found {b}. ' + 'Both count. ' * (i % 4)
  said += f'The answer is ({a} + {b}).'
  if i % 6 == 1:
    said = 'It is hard to tell.'
  elif i % 6 == 4:
    said = 'Many. The answer is unclear.'
  return row, said


def read_rows(folder, name):
  """Returns (input, gold label, rationale, teacher label) of the train split.

  Those that are left when the published code has held out a tenth.
  """
  inner = folder / name
  lines = (inner / f'{name}_train.json').read_text('utf-8').splitlines()
  said = []
  while (file := inner / f'llm/train_CoT_{len(said)}.json').exists():
    said.append(json.loads(file.read_text('utf-8')))
  said = [text for part in said for text in part]
  rows = []
  for line, text in zip(lines, said, strict=True):
    row = json.loads(line)
    if name == 'cqa':
      shown = [f'({chr(97 + k)}) {c}' for k, c in enumerate(row['choices'])]
      asked = '\n'.join([row['question'], 'Answer Choices:', *shown])
      gold = row['answer']
    else:
      asked, gold = row['input'], row['label']
    rows.append((asked, gold, *parse(name, text)))
  order = np.random.default_rng(0).permutation(len(rows))
  return [rows[i] for i in order[math.ceil(len(rows) / 10) :]]


def parse(name, text):
  """Returns rationale and label of a completion, a space for what it lacks."""
  parts = text.partition('Q:')[0].rstrip().split(PHRASES[name])
  if len(parts) != 2:
    return BLANK, BLANK
  pattern = r'\(.\)(.*?)(?=\(.\)|$)' if name == 'cqa' else r'(\(.*\))'
  found = re.search(pattern, parts[1], re.DOTALL if name == 'cqa' else 0)
  label = found[1].strip() if found else ''
  if name == 'cqa' and label.endswith('.'):
    label = label[:-1]
  return parts[0].rstrip(), label or BLANK


# ---- Tokens ------------------------------------------------------------------


def train_vocabulary(folder, path, size, rule):
  """Trains a vocabulary of T5's kind on the texts of the rows."""
  texts = [t for name in SETS for row in read_rows(folder, name) for t in row]
  with path.open('wb') as file:
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(t for text in texts for t in text.split('\n')),
      model_writer=file,
      vocab_size=size,
      hard_vocab_limit=False,
      character_coverage=1.0,
      normalization_rule_name=rule,
      pad_id=0,
      eos_id=1,
      unk_id=2,
      bos_id=-1,
      num_threads=1,
    )


def published_tokenizer(path):
  """Returns a function to tokens: the fast tokenizer of transformers 4.24."""
  proto = sentencepiece_model_pb2.ModelProto()
  proto.ParseFromString(path.read_bytes())
  made = tokenizers.Tokenizer(
    tokenizers.models.Unigram(
      [(piece.piece, piece.score) for piece in proto.pieces], unk_id=2
    )
  )
  spaces = tokenizers.normalizers.Replace(tokenizers.Regex(' {2,}'), ' ')
  table = proto.normalizer_spec.precompiled_charsmap
  if table:
    precompiled = tokenizers.normalizers.Precompiled(table)
    made.normalizer = tokenizers.normalizers.Sequence([precompiled, spaces])
  else:
    made.normalizer = spaces
  made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace('▁', 'always')
  return lambda text: [*made.encode(text).ids, 1]


def padded(sequences, value):
  tensors = [torch.tensor(tokens) for tokens in sequences]
  return torch.nn.utils.rnn.pad_sequence(tensors, True, value)


# ---- Training ----------------------------------------------------------------


def make_model(folder, rows, **sizes):
  """Saves a T5 1.1 with random parameters."""
  torch.manual_seed(0)
  config = transformers.T5Config(
    vocab_size=rows,
    feed_forward_proj='gated-gelu',
    tie_word_embeddings=False,
    dropout_rate=0.0,
    decoder_start_token_id=0,
    **sizes,
  )
  model = transformers.T5ForConditionalGeneration(config)
  # Of its own, so that nothing is tied whatever the version does.
  model.lm_head.weight = torch.nn.Parameter(
    torch.randn(rows, config.d_model) * 0.05
  )
  model.save_pretrained(folder)


def adamw_4_24(parameters, state, rate, step, betas=(0.9, 0.999), eps=1e-8):
  """One step of the AdamW that transformers 4.24 has of its own, by formula."""
  scale = rate * math.sqrt(1 - betas[1] ** step) / (1 - betas[0] ** step)
  for parameter, (mean, square) in zip(parameters, state, strict=True):
    mean.mul_(betas[0]).add_(parameter.grad, alpha=1 - betas[0])
    square.mul_(betas[1]).addcmul_(
      parameter.grad, parameter.grad, value=1 - betas[1]
    )
    parameter.data.addcdiv_(mean, square.sqrt() + eps, value=-scale)


def train(folder, model_folder, vocabulary, name, options):
  """Returns the numbers of every step."""
  encode = published_tokenizer(vocabulary)
  rows = read_rows(folder, name)
  model = transformers.T5ForConditionalGeneration.from_pretrained(
    model_folder, dtype=torch.float32
  )
  model.train()
  parameters = list(model.parameters())
  state = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
  found = []
  for step in range(options.steps):
    part = rows[step * options.pairs : (step + 1) * options.pairs]
    assert len(part) == options.pairs
    losses = []
    for prefix, column in (
      ('predict: ', 3 if options.labels == 'teacher' else 1),
      ('explain: ', 2),
    ):
      inputs = padded([encode(prefix + row[0]) for row in part], 0)
      targets = padded([encode(row[column]) for row in part], -100)
      made = model(input_ids=inputs, attention_mask=inputs != 0, labels=targets)
      losses.append(made.loss)
    loss = options.alpha * losses[0] + (1 - options.alpha) * losses[1]
    for parameter in parameters:
      parameter.grad = None
    loss.backward()
    # In float64: torch's own sum of float32 squares is off in the fourth digit.
    square = sum(float(p.grad.double().square().sum()) for p in parameters)
    norm = math.sqrt(square)
    for parameter in parameters:
      parameter.grad.mul_(min(1.0, 1.0 / (norm + 1e-6)))
    rate = options.rate * (1 - step / options.steps)
    adamw_4_24(parameters, state, rate, step + 1)
    found.append(
      {
        'label_loss': losses[0].item(),
        'rationale_loss': losses[1].item(),
        'loss': loss.item(),
        'grad_norm': norm,
        'learning_rate': rate,
        'blank_labels': sum(row[3] == BLANK for row in part),
        'blank_rationales': sum(row[2] == BLANK for row in part),
      }
    )
  return found


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--rows', help='files in the published layout')
  parser.add_argument('--out', default=HERE, type=pathlib.Path)
  parser.add_argument('--pairs', default=7, type=int)
  parser.add_argument('--steps', default=3, type=int)
  parser.add_argument('--rate', default=5e-3, type=float)
  parser.add_argument('--alpha', default=0.5, type=float)
  parser.add_argument('--pieces', default=300, type=int)
  parser.add_argument('--width', default=16, type=int)
  parser.add_argument('--layers', default=1, type=int)
  options = parser.parse_args()
  out = options.out
  rows = pathlib.Path(options.rows or out / 'rows')
  if not options.rows:
    write_rows(rows)
  vocabulary = out / 'spiece.model'
  rule = 'nmt_nfkc' if options.rows else 'identity'
  if not vocabulary.exists():
    train_vocabulary(rows, vocabulary, options.pieces, rule)
  pieces = sentencepiece.SentencePieceProcessor(str(vocabulary)).vocab_size()
  if not (out / 'model').exists():
    make_model(
      out / 'model',
      math.ceil((pieces + 100) / 128) * 128,
      d_model=options.width,
      num_heads=4,
      d_kv=options.width // 4,
      d_ff=2 * options.width,
      num_layers=options.layers,
      num_decoder_layers=options.layers,
    )
  facts = {
    'transformers': transformers.__version__,
    'torch': torch.__version__,
    'pairs': options.pairs,
    'rate': options.rate,
    'blank': published_tokenizer(vocabulary)(BLANK),
    'steps': {},
  }
  for name in SETS:
    for labels in ('gold', 'teacher'):
      options.labels = labels
      facts['steps'][f'{name}_{labels}'] = train(
        rows, out / 'model', vocabulary, name, options
      )
  text = json.dumps(facts, indent=1) + '\n'
  (
    out / f'facts_{options.rate}.json' if options.rows else out / 'facts.json'
  ).write_text(text)


if __name__ == '__main__':
  main()
