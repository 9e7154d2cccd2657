"""Greedy, sampled and beam-search decoding over a cache of keys and values."""

# fmt: off
from t5x.decoding.beam import BeamState, beam_search
from t5x.decoding.cache import (
  DecodingState, ShortCacheModel, cache_map, flat_batch_beam_expand,
)
from t5x.decoding.sampling import SamplingLoopState, temperature_sample

__all__ = (
  'BeamState', 'DecodingState', 'SamplingLoopState', 'ShortCacheModel',
  'beam_search', 'cache_map', 'flat_batch_beam_expand', 'temperature_sample',
)
