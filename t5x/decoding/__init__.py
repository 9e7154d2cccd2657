"""Greedy, sampled and beam-search decoding over a cache of keys and values."""

# fmt: off
from t5x.decoding.beam import NEG_INF, BeamState, beam_search
from t5x.decoding.beam_dims import (
  add_beam_dim, brevity_penalty, cache_gather_beams, flatten_beam_dim,
  gather_beams, gather_topk_beams, top_k_two_stage, unflatten_beam_dim,
)
from t5x.decoding.cache import (
  DecodingState, ShortCacheModel, cache_map, flat_batch_beam_expand,
)
from t5x.decoding.groups import in_groups
from t5x.decoding.sampling import (
  MIN_TEMPERATURE, LogitCallbackFn, SamplingLoopState, StateCallbackFn,
  temperature_sample,
)

__all__ = (
  'MIN_TEMPERATURE', 'NEG_INF', 'BeamState', 'DecodingState', 'LogitCallbackFn',
  'SamplingLoopState', 'ShortCacheModel', 'StateCallbackFn', 'add_beam_dim',
  'beam_search', 'brevity_penalty', 'cache_gather_beams', 'cache_map',
  'flat_batch_beam_expand', 'flatten_beam_dim', 'gather_beams',
  'gather_topk_beams', 'in_groups', 'temperature_sample', 'top_k_two_stage',
  'unflatten_beam_dim',
)
