"""Makes the folders of T5, Flan-T5 and mT5 that transformers saves again.

They are facts about what transformers writes: run it again only to add a case,
first with transformers 4 (made with 4.57.6), then with 5 (made with 5.24.0):

  python make.py

Version 4 draws random weights, as no model is that small, and saves them;
version 5 loads what version 4 saved. `scores.json` has, by folder, the log
likelihood of targets as transformers computes it from that folder in float32.
"""

import json
import pathlib
import shutil
import tempfile

import torch
import transformers

HERE = pathlib.Path(__file__).parent
VERSION = transformers.__version__.split('.')[0]
SIZES = {
  'vocab_size': 24,
  'd_model': 8,
  'd_kv': 4,
  'd_ff': 12,
  'num_layers': 1,
  'num_decoder_layers': 1,
  'num_heads': 2,
  'dropout_rate': 0.0,
}
# Kind: class, and what its published configuration has.
KINDS = {
  't5': ('T5', {'feed_forward_proj': 'relu'}),
  'flan_t5': (
    'T5',
    {'feed_forward_proj': 'gated-gelu', 'tie_word_embeddings': False},
  ),
  'mt5': (
    'MT5',
    {'feed_forward_proj': 'gated-gelu', 'tie_word_embeddings': False},
  ),
}
INPUTS = [[5, 9, 3, 17, 1], [23, 2, 8, 1, 0]]
TARGETS = [[7, 7, 20, 1], [4, 11, 1, 0]]
SHARD = '2KB'


def model_class(kind):
  return getattr(transformers, KINDS[kind][0] + 'ForConditionalGeneration')


def first_model(kind):
  """A model with random weights, with a head of its own where it says so."""
  name, options = KINDS[kind]
  config = getattr(transformers, name + 'Config')(
    decoder_start_token_id=0, **SIZES, **options
  )
  torch.manual_seed(sorted(KINDS).index(kind))
  model = model_class(kind)(config)
  with torch.no_grad():
    for weight in model.parameters():
      weight += 0.3 * torch.randn_like(weight)
  return model


def save(model, folder, in_torch_files=False):
  shutil.rmtree(folder, ignore_errors=True)
  options = {'safe_serialization': False} if in_torch_files else {}
  model.save_pretrained(folder, max_shard_size=SHARD, **options)
  (folder / 'generation_config.json').unlink()


def scores(kind, folder):
  model = model_class(kind).from_pretrained(folder, dtype=torch.float32).eval()
  inputs, targets = torch.tensor(INPUTS), torch.tensor(TARGETS)
  with torch.no_grad():
    logits = model(
      input_ids=inputs, attention_mask=(inputs > 0).long(), labels=targets
    ).logits
  taken = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
  return (taken * (targets > 0)).sum(-1).tolist()


def main():
  file = HERE / 'scores.json'
  found = json.loads(file.read_text()) if file.exists() else {}
  for kind in KINDS:
    if VERSION == '4':
      with tempfile.TemporaryDirectory() as published:
        first_model(kind).save_pretrained(published)
        model = model_class(kind).from_pretrained(
          published, dtype=torch.bfloat16
        )
    else:
      model = model_class(kind).from_pretrained(
        HERE / f'{kind}_by_4', dtype=torch.bfloat16
      )
    names = [f'{kind}_by_{VERSION}']
    save(model, HERE / names[0])
    if VERSION == '4' and kind == 'flan_t5':
      # Version 5 writes no such files.
      names.append(f'{kind}_by_4_in_torch_files')
      save(model, HERE / names[1], in_torch_files=True)
    for name in names:
      found[name] = scores(kind, HERE / name)
  file.write_text(
    json.dumps(
      {'inputs': INPUTS, 'targets': TARGETS, **found}, indent=1, sort_keys=True
    )
  )


if __name__ == '__main__':
  main()
