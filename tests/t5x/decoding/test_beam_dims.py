"""The axis of the beams, on literals; all take the batch at an offset."""

import jax.numpy as jnp
import numpy as np
import pytest

from t5x import decoding


def test_beams_are_added_merged_and_split():
  x = jnp.array([[1, 2], [3, 4]])
  added = decoding.add_beam_dim(x, 3)
  assert added.tolist() == [[[1, 2]] * 3, [[3, 4]] * 3]
  flat = decoding.flatten_beam_dim(added)
  assert flat.tolist() == [[1, 2]] * 3 + [[3, 4]] * 3
  np.testing.assert_array_equal(flat, decoding.flat_batch_beam_expand(x, 3))
  assert decoding.unflatten_beam_dim(flat, 2, 3).tolist() == added.tolist()


def test_beams_follow_a_batch_at_an_offset():
  # Two layers of a batch of three.
  x = jnp.arange(6).reshape(2, 3)
  added = decoding.add_beam_dim(x, 2, offset=1)
  assert added.tolist() == [[[0, 0], [1, 1], [2, 2]], [[3, 3], [4, 4], [5, 5]]]
  flat = decoding.flatten_beam_dim(added, offset=1)
  assert flat.tolist() == [[0, 0, 1, 1, 2, 2], [3, 3, 4, 4, 5, 5]]
  back = decoding.unflatten_beam_dim(flat, 3, 2, offset=1)
  assert back.tolist() == added.tolist()
  with pytest.raises(ValueError, match='expected 3 x 3 rows in axis 1'):
    decoding.unflatten_beam_dim(flat, 3, 3, offset=1)
  with pytest.raises(ValueError, match='expected 3 x 1 rows in axis 1'):
    decoding.unflatten_beam_dim(flat, 3, 1, offset=1)


def test_beams_follow_two_axes():
  x = jnp.arange(30).reshape(2, 1, 3, 5)
  added = decoding.add_beam_dim(x, 4, offset=2)
  assert added.shape == (2, 1, 3, 4, 5)
  flat = decoding.flatten_beam_dim(added, offset=2)
  np.testing.assert_array_equal(flat, np.repeat(x, 4, axis=2))
  assert flat.shape == (2, 1, 12, 5)


def test_what_has_no_batch_stays():
  counter = jnp.int32(7)
  assert decoding.add_beam_dim(counter, 3, offset=1) == 7
  assert decoding.unflatten_beam_dim(counter, 2, 3, offset=1) == 7
  one_each = jnp.array([4, 5])
  assert decoding.flatten_beam_dim(one_each) is one_each
  assert decoding.add_beam_dim(one_each, 3, offset=1) is one_each
  taken = decoding.gather_beams(one_each, jnp.zeros((2, 1), int), 2, 1, 1)
  assert taken is one_each
  assert decoding.add_beam_dim(counter, 3) == 7
  assert decoding.flatten_beam_dim(counter) == 7
  assert decoding.unflatten_beam_dim(counter, 2, 3) == 7
  assert decoding.gather_beams(counter, jnp.zeros((1, 1), int), 1, 1, 1) == 7


def test_beams_are_gathered_from_a_tree():
  tree = {'a': jnp.array([[10, 11], [20, 21]]), 'b': jnp.ones((2, 2, 3))}
  found = decoding.gather_beams(
    tree, jnp.array([[1, 1, 0], [0, 1, 0]]), 2, 2, 3
  )
  assert found['a'].tolist() == [[11, 11, 10], [20, 21, 20]]
  assert found['b'].shape == (2, 3, 3)
  with pytest.raises(ValueError, match='expected indices of the shape'):
    decoding.gather_beams(tree, jnp.array([[1]]), 2, 2, 1)
  with pytest.raises(ValueError, match='expected indices of the shape'):
    decoding.gather_beams(tree, jnp.array([[1], [0], [0]]), 2, 2, 1)


def test_the_best_beam_is_last():
  tokens = jnp.array([[1, 2, 3], [4, 5, 6]])
  scores = jnp.array([[0.3, 0.9, 0.5], [0.0, -1.0, -2.0]])
  found = decoding.gather_topk_beams([tokens], scores, 2, 2)
  assert found[0].tolist() == [[3, 2], [5, 4]]


@pytest.mark.parametrize('offset', [0, 1, 2])
def test_beams_are_gathered_from_a_cache(offset):
  keys = jnp.array([[10, 11], [20, 21]])
  cache = {
    'cached_key': jnp.broadcast_to(keys, (3,) * offset + keys.shape),
    'cached_bias': jnp.ones((2, 2)),
    'cache_index': jnp.int32(4),
  }
  found = decoding.cache_gather_beams(
    {'layer': cache}, jnp.array([[1], [0]]), 2, 2, 1, offset=offset
  )['layer']
  expected = [[11], [20]]
  for _ in range(offset):
    expected = [expected] * 3
  assert found['cached_key'].tolist() == expected
  assert found['cached_bias'] is cache['cached_bias']
  assert found['cache_index'] == 4


def test_candidates_and_constants():
  values, places = decoding.top_k_two_stage(jnp.array([[1.0, 5.0, 3.0]]), 2)
  assert values.tolist() == [[5, 3]] and places.tolist() == [[1, 2]]
  assert decoding.brevity_penalty(2.0, 7) == 4.0
  assert decoding.brevity_penalty(0.0, jnp.array([1, 9])).tolist() == [1, 1]
  assert decoding.NEG_INF == -1.0e7 and decoding.MIN_TEMPERATURE == 1e-4
