"""Row shapes are judged by what training then packs."""

import numpy as np
import pytest

from dss_jax import mixtures
from dss_jax.commands import inspection
from dss_jax.pipeline import feature_converter, row_shapes
from t5x import data


def units(encoder, decoder):
  return row_shapes.Lengths(
    np.array(encoder)[:, None], np.array(decoder)[:, None]
  )


def test_docstring_example():
  found = row_shapes.fill(units([3] * 4, [2] * 4), (6, 8))
  assert found == ((6, 8), 1.0, 0.5, 2.0)
  assert not found.is_good


def test_units_without_targets_take_no_room():
  found = row_shapes.fill(units([3, 3, 3], [2, 0, 2]), (6, 4))
  assert found == ((6, 4), 1.0, 1.0, 2.0)
  assert row_shapes.fill(units([3], [0]), (6, 4)).units_a_row == 0.0


def test_rows_are_filled_window_by_window():
  # 512 rows of the first 1024 units, and 3 of the other 6.
  found = row_shapes.fill(units([3] * 1030, [2] * 1030), (6, 8))
  assert found.units_a_row == 1030 / 515
  assert found.encoder == 1.0
  # 513 rows, of which the last of each window has one unit.
  found = row_shapes.fill(units([3] * 1025, [2] * 1025), (6, 8))
  assert found.units_a_row == 1025 / 513
  assert row_shapes.fill(units([9], [1]), (6, 8)) == ((6, 8), 1.0, 1 / 8, 1.0)
  # Without targets there is still a row of them.
  assert row_shapes.best(units([3], [0]), 64) == ((64, 8), 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
  ('encoder', 'decoder', 'good'),
  [(0.95, 0.85, True), (0.949, 0.99, False), (0.99, 0.849, False),
   (1.0, 1.0, True)],
)  # fmt: skip
def test_a_good_shape_fills_so_much_of_both_sides(encoder, decoder, good):
  assert row_shapes.Fill((8, 8), encoder, decoder, 1.0).is_good == good


@pytest.mark.parametrize(
  ('seed', 'ends', 'proportion', 'length', 'targets', 'good'),
  [(0, (20, 60), 0.2, 512, 112, True), (1, (20, 60), 1.5, 512, 744, True),
   (2, (5, 200), 0.6, 256, 208, False), (3, (100, 120), 0.3, 256, 80, False),
   (4, (3, 9), 4.0, 128, 528, False), (5, (2, 4), 0.1, 64, 32, False)],
)  # fmt: skip
def test_the_best_shape_is_what_it_was(
  seed, ends, proportion, length, targets, good
):
  rng = np.random.default_rng(seed)
  encoder = rng.integers(*ends, 300)
  decoder = (encoder * proportion * rng.uniform(0.2, 1.8, 300)).astype(int) + 1
  found = row_shapes.best(units(encoder, decoder), length)
  assert found.row_shape == (length, targets)
  assert found.is_good == good
  assert found == row_shapes.fill(units(encoder, decoder), found.row_shape)


@pytest.mark.parametrize('proportion', [0.2, 0.6, 1.5])
def test_the_best_shape_fills_both_sides_and_cuts_no_target(proportion):
  rng = np.random.default_rng(0)
  encoder = rng.integers(20, 60, 1024)
  decoder = (encoder * proportion * rng.uniform(0.2, 1.8, 1024)).astype(int) + 1
  found = row_shapes.best(units(encoder, decoder), 512)
  assert found.is_good, found
  assert found.row_shape[0] == 512
  assert found.row_shape[1] >= decoder.max()
  assert found.row_shape[1] % 8 == 0


def test_short_rows_are_recommended_unless_they_fill_badly():
  good, larger, bad = (
    row_shapes.Fill((256, 96), 0.96, 0.9, 5.0),
    row_shapes.Fill((512, 192), 0.99, 0.99, 10.0),
    row_shapes.Fill((128, 64), 0.99, 0.6, 2.0),
  )
  assert row_shapes.recommended([larger, bad, good]) == good
  worse = row_shapes.Fill((256, 96), 0.5, 0.99, 5.0)
  assert row_shapes.recommended([worse, bad]) == bad
  # The emptier side is that which lacks the greater part of what is good.
  near = row_shapes.Fill((64, 32), 0.76, 0.9, 2.0)
  nearer = row_shapes.Fill((512, 32), 0.9, 0.69, 2.0)
  assert row_shapes.recommended([near, nearer]) == nearer
  assert row_shapes.recommended([nearer, near]) == nearer


def test_inspection_foretells_what_training_packs(tfds_dir):
  experiment = mixtures.Experiment('svamp')
  lengths = {'inputs': 128, 'targets': 96}
  found = inspection.inspect(experiment, lengths)
  mixtures.register(experiment)
  dataset = data.get_dataset(
    data.DatasetConfig(
      mixtures.train_name(experiment), lengths, 'train', 16, shuffle=True,
      seed=0, pack=True,
    ), 0, 1, feature_converter.DistillFeatureConverter,
  )  # fmt: skip
  batches = list(dataset.take(40).as_numpy_iterator())
  for side in ('encoder', 'decoder'):
    packed = np.mean([(b[f'{side}_segment_ids'] > 0).mean() for b in batches])
    assert getattr(found.packed, side) == pytest.approx(packed, abs=0.02)
  assert any(shape.is_good for shape in found.shapes)
