"""Makes the files of this folder with the real torch and transformers.

They are facts about torch's formats: make them again only to add a case.
Made with torch 2.13.0 and transformers 5.23.0, as `python make.py`.
"""

import collections
import json
import pathlib

import numpy as np
import torch
import transformers

HERE = pathlib.Path(__file__).parent


def tensors():
  """What a state dict may hold: types, views, one storage for several."""
  base = torch.arange(24, dtype=torch.float32).reshape(4, 6) / 7
  return collections.OrderedDict(
    float32=base,
    turned=base.T,
    part=base[1:, ::2],
    repeated=base[0].expand(3, 6),
    number=torch.tensor(2.5),
    empty=torch.zeros(0, 3),
    float16=base.half(),
    bfloat16=base.bfloat16(),
    float64=base.double(),
    int64=torch.arange(3),
    parameter=torch.nn.Parameter(base[2].clone()),
  )


def write_tensors():
  made = tensors()
  # What modules hang on their state dicts.
  made._metadata = collections.OrderedDict({'': {'version': 1}})
  torch.save(made, HERE / 'tensors.zip.bin')
  torch.save(
    made, HERE / 'tensors.legacy.bin', _use_new_zipfile_serialization=False
  )
  np.savez(
    HERE / 'tensors.npz',
    **{name: x.detach().double().numpy() for name, x in made.items()},
  )


def write_model():
  """A T5 1.1 in one file, and the same in two with an index."""
  config = transformers.T5Config(
    vocab_size=16,
    d_model=8,
    d_kv=4,
    d_ff=12,
    num_layers=1,
    num_decoder_layers=2,
    num_heads=2,
    feed_forward_proj='gated-gelu',
  )
  config.tie_word_embeddings = False  # transformers 5 does not take it above.
  torch.manual_seed(0)
  state = transformers.T5ForConditionalGeneration(config).state_dict()
  state['lm_head.weight'] = torch.randn(16, 8)
  for folder in ('one_file', 'sharded'):
    (HERE / folder).mkdir(exist_ok=True)
    config.save_pretrained(HERE / folder)
  torch.save(state, HERE / 'one_file' / 'pytorch_model.bin')
  names = [f'pytorch_model-0000{i}-of-00002.bin' for i in (1, 2)]
  weight_map = {
    name: names[name.startswith('decoder')] for name in sorted(state)
  }
  for file in names:
    part = {k: v for k, v in state.items() if weight_map[k] == file}
    torch.save(part, HERE / 'sharded' / file)
  index = {'metadata': {}, 'weight_map': weight_map}
  (HERE / 'sharded' / 'pytorch_model.bin.index.json').write_text(
    json.dumps(index, indent=1)
  )
  np.savez(HERE / 'model.npz', **{k: v.numpy() for k, v in state.items()})


if __name__ == '__main__':
  write_tensors()
  write_model()
