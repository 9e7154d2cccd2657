"""Makes a tiny umT5 with random weights, and its scores in transformers.

They are facts about transformers (made with 5.24.0): run it again only to add a
case.

  python make.py

`scores.json` has the log likelihood of targets as transformers computes it from
the folder `model` in float32.
"""

import json
import pathlib
import shutil

import torch
import transformers

HERE = pathlib.Path(__file__).parent
SIZES = {
  'vocab_size': 24,
  'd_model': 8,
  'd_kv': 4,
  'd_ff': 12,
  'num_layers': 3,
  'num_decoder_layers': 2,
  'num_heads': 3,
  'dropout_rate': 0.0,
}
INPUTS = [[5, 9, 3, 17, 1, 8, 20, 12, 11, 1], [23, 2, 8, 1, 0, 0, 0, 0, 0, 0]]
TARGETS = [[7, 7, 20, 5, 19, 1], [4, 11, 1, 0, 0, 0]]


def main():
  config = transformers.UMT5Config(
    **SIZES,
    feed_forward_proj='gated-gelu',
    tie_word_embeddings=False,
    relative_attention_num_buckets=8,
    relative_attention_max_distance=12,
    decoder_start_token_id=0,
  )
  torch.manual_seed(3)
  model = transformers.UMT5ForConditionalGeneration(config).eval()
  # Not tied to the embedding, as in the published ones.
  model.lm_head.weight = torch.nn.Parameter(
    torch.randn_like(model.lm_head.weight)
  )
  with torch.no_grad():
    for weight in model.parameters():
      weight += 0.3 * torch.randn_like(weight)
    for name, weight in model.named_parameters():
      if 'relative_attention_bias' in name:
        weight += torch.randn_like(weight)
  folder = HERE / 'model'
  shutil.rmtree(folder, ignore_errors=True)
  model.save_pretrained(folder)
  (folder / 'generation_config.json').unlink()
  model = transformers.UMT5ForConditionalGeneration.from_pretrained(
    folder, dtype=torch.float32
  ).eval()
  inputs, targets = torch.tensor(INPUTS), torch.tensor(TARGETS)
  with torch.no_grad():
    logits = model(
      input_ids=inputs, attention_mask=(inputs > 0).long(), labels=targets
    ).logits
  taken = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
  scores = (taken * (targets > 0)).sum(-1).tolist()
  (HERE / 'scores.json').write_text(
    json.dumps(
      {'inputs': INPUTS, 'targets': TARGETS, 'scores': scores},
      indent=1,
      sort_keys=True,
    )
    + '\n'
  )


if __name__ == '__main__':
  main()
