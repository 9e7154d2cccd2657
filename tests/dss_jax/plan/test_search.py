"""The choice of what to compile, and of the best."""

import dataclasses

import pytest

from dss_jax.errors import DataError
from dss_jax.plan import counting, hardware, search
from tests.dss_jax.plan.test_counting import BASE

GIB = hardware.GIB
POD = hardware.parse('v5e:4x4')
WORK = counting.Workload(BASE, POD)
DECODING = counting.Workload(BASE, POD, decode=True)


def _compiler(fits, seconds=None, seen=None):
  """Answers as the worker does: by counted memory and time."""

  def compile_step(candidate):
    if seen is not None:
      seen.append(candidate)
    needed = sum(WORK.memory(candidate).values())
    if not fits(candidate):
      return {'fits': False, 'needed': 20 * GIB, 'limit': 16 * GIB}
    time = (seconds or WORK.seconds)(candidate)
    return {'fits': True, 'needed': needed, 'limit': 16 * GIB, 'seconds': time}

  return compile_step


def test_candidates_leave_whole_rows_and_divide_what_is_split():
  found = search.candidates(WORK, 32)
  # 12 heads: a replica lies on 1 or 4 of the 16 chips; 2 are half a direction.
  assert {c.partitions for c in found} == {1, 4}
  assert {c.microbatches for c in found if c.partitions == 1} == {1, 2}
  assert {c.microbatches for c in found if c.partitions == 4} == {1, 2, 4, 8}
  assert {c.remat for c in found} == set(search.REMATS)
  assert {c.scan for c in found} == {False, True}
  layouts = {(c.parameter_dims, c.gather) for c in found}
  assert layouts == {(1, False), (2, False), (2, True)}
  assert len(set(found)) == len(found)


def test_without_a_data_axis_parameters_are_split_over_model_alone():
  model = dataclasses.replace(BASE, heads=16)
  chips = hardware.parse('v5e:2x2')
  found = search.candidates(counting.Workload(model, chips), 1)
  assert {(c.partitions, c.parameter_dims) for c in found} == {(4, 1)}


def test_a_batch_that_leaves_no_whole_rows_is_refused():
  with pytest.raises(DataError, match='multiple of 16'):
    search.candidates(WORK, 2)


def test_the_fastest_of_what_fits_comes_first_and_what_does_not_fit_last():
  choices = search.candidates(WORK, 256)
  found = search.search(
    WORK,
    choices,
    _compiler(lambda c: c.remat in ('minimal', 'full')),
    limit=0,
  )
  times = [f.result['seconds'] for f in found if f.fits]
  assert times == sorted(times)
  assert [f.fits for f in found] == sorted(
    [f.fits for f in found], reverse=True
  )
  assert found[0].candidate.remat == 'minimal'


def test_a_search_ends_where_arithmetic_promises_nothing_better():
  seen = []
  choices = search.candidates(WORK, 256)
  found = search.search(
    WORK, choices, _compiler(lambda c: True, seen=seen), limit=8
  )
  assert len(seen) == 1
  assert found[0].candidate == min(choices, key=WORK.seconds)


def test_a_search_without_a_limit_ends_where_arithmetic_can_be_trusted():
  seen = []
  choices = search.candidates(WORK, 256)
  # The compiler's programs take twice what arithmetic says.
  compiler = _compiler(lambda c: True, lambda c: 2 * WORK.seconds(c), seen)
  search.search(WORK, choices, compiler, limit=0)
  best = min(map(WORK.seconds, choices))
  expected = [c for c in choices if WORK.seconds(c) <= 1.2 * best]
  assert 1 < len(expected) < len(choices)
  assert set(seen) == set(expected)


def test_a_search_without_a_limit_finds_what_arithmetic_ranks_lower():
  choices = search.candidates(WORK, 256)
  ranked = sorted(choices, key=WORK.seconds)
  fast = next(
    c for c in ranked if WORK.seconds(c) > 1.1 * WORK.seconds(ranked[0])
  )

  def seconds(candidate):
    return WORK.seconds(candidate) * (0.5 if candidate == fast else 1.0)

  compiler = _compiler(lambda c: True, seconds)
  assert search.search(WORK, choices, compiler, limit=0)[0].candidate == fast
  assert search.search(WORK, choices, compiler, limit=4)[0].candidate != fast


def test_what_needs_more_than_what_was_too_large_is_not_compiled():
  seen = []
  choices = search.candidates(WORK, 256)
  search.search(WORK, choices, _compiler(lambda c: False, seen=seen), limit=0)
  sizes = [sum(WORK.memory(c).values()) for c in seen]
  assert sizes == sorted(sizes, reverse=True)
  assert len(set(sizes)) == len(sizes)


def test_the_limit_counts_compilations():
  seen = []
  search.search(
    WORK,
    search.candidates(WORK, 256),
    _compiler(lambda c: False, seen=seen),
    limit=2,
  )
  assert len(seen) == 2


def test_if_arithmetic_lets_nothing_through_the_smallest_is_compiled():
  model = dataclasses.replace(BASE, parameter_bytes=10**13)
  work = counting.Workload(model, POD)
  choices = search.candidates(work, 256)
  seen = []
  found = search.search(
    work, choices, _compiler(lambda c: False, seen=seen), limit=4
  )
  assert seen == [found[0].candidate]
  assert not found[0].fits
  smallest = min(choices, key=lambda c: sum(work.memory(c).values()))
  assert seen == [smallest]


def test_a_candidate_that_cannot_be_compiled_does_not_end_the_search():
  def compile_step(candidate):
    if candidate.remat == 'none':
      raise DataError('The compiling process ended.')
    return _compiler(lambda c: True)(candidate)

  found = search.search(
    WORK, search.candidates(WORK, 256), compile_step, limit=0
  )
  assert found[0].fits
  assert found[-1].problem == 'The compiling process ended.'


def test_one_gpu_is_counted_only():
  gpu = hardware.parse('gpu:h200')
  work = counting.Workload(BASE, gpu)
  choices = search.candidates(work, 64)
  found = search.count_only(work, choices)
  assert 0 < len(found) <= 8
  assert all(f.result is None for f in found)
  assert all(sum(f.counted.values()) <= gpu.chip.hbm_bytes for f in found)
  # Each layout once, in as few parts as fit.
  layouts = [(f.candidate.remat, f.candidate.scan) for f in found]
  assert len(set(layouts)) == len(layouts)
  assert found[0].candidate.microbatches == 1
  model = dataclasses.replace(BASE, parameter_bytes=10**13)
  work = counting.Workload(model, gpu)
  assert len(search.count_only(work, choices)) == 1


def test_decoding_holds_a_cache_and_no_optimizer():
  candidate = search.candidates(DECODING, 64)[0]
  kinds = DECODING.memory(candidate)
  assert kinds['optimizer'] == kinds['gradients'] == 0
  # 4 rows a chip; keys and values; bfloat16; 12 layers of 768; 512 + 256.
  assert kinds['activations'] == 4 * 2 * 2 * 12 * 768 * (512 + 256)


def test_decoding_gathers_no_kernels_first():
  assert not any(c.gather for c in search.candidates(DECODING, 64))


def test_decoding_keeps_parameters_where_they_fit_and_gathers_none():
  seen = []
  search.search(
    DECODING,
    search.candidates(DECODING, 64),
    _compiler(lambda c: True, seen=seen),
    limit=1,
  )
  assert [c.parameter_dims for c in seen] == [1]


def test_rows_of_other_lengths_hold_the_examples_of_a_step():
  shapes = [(512, 256, 10.0), (256, 96, 4.9), (1024, 392, 21.0)]
  found = search.shaped_candidates(WORK, 256, shapes)
  rows = {(*(c.lengths or (512, 256)), c.rows) for c in found}
  # 2,560 examples, in whole rows for 16 chips.
  assert rows == {(512, 256, 256), (256, 96, 528), (1024, 392, 128)}
  for candidate in found:
    assert candidate.examples == pytest.approx(2560, rel=0.06)


def test_the_best_takes_least_for_an_example_whatever_its_rows():
  shapes = [(512, 256, 10.0), (256, 96, 5.0)]
  choices = search.shaped_candidates(WORK, 256, shapes)
  found = search.search(WORK, choices, _compiler(lambda c: True), limit=0)
  times = [f.result['seconds'] / f.candidate.examples for f in found]
  assert times == sorted(times)
  # The longer rows pay for the larger attention, and for emptier targets.
  best = found[0].candidate
  assert best.lengths == (256, 96)
  assert "TASK_FEATURE_LENGTHS = {'inputs': 256, 'targets': 96}" in best.gin()
  assert WORK.of(best).flops(1) < WORK.flops(1) / 2
