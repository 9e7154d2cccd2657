"""Whatever a file or an option holds, an error names it."""

import json

import flax.serialization
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from t5x import checkpoints, errors
from t5x.checkpoints import integrity
from t5x.checkpoints.formats import legacy_t5x, orbax
from t5x.run import identity
from tests.fuzz import targets

_FUZZ = settings(
  max_examples=150,
  deadline=None,
  suppress_health_check=[HealthCheck.function_scoped_fixture],
)
_NAMES = st.sampled_from(
  [
    'tree_metadata',
    'key_metadata',
    'value_metadata',
    'value_type',
    'key',
    'jax.Array',
    'None',
    'Dict',
    'target',
    '../../etc/passwd',
    'use_ocdbt',
    'optimizer',
    'version',
    'driver',
    'kvstore',
    'path',
    'metadata',
    'shape',
    'dtype',
    'batches',
    '__import__("os")',
  ]
)
_TREES = st.recursive(
  st.none()
  | st.booleans()
  | st.integers(-(2**63), 2**63 - 1)
  | st.floats()
  | st.text()
  | _NAMES,
  lambda inner: (
    st.lists(inner, max_size=4)
    | st.dictionaries(_NAMES | st.text(max_size=5), inner, max_size=4)
  ),
  max_leaves=12,
)
_LEAVES = st.dictionaries(
  st.text(max_size=8),
  st.fixed_dictionaries(
    {
      'key_metadata': st.lists(
        st.fixed_dictionaries({'key': _NAMES}), max_size=3
      ),
      'value_metadata': st.fixed_dictionaries({'value_type': _NAMES}),
    }
  ),
  max_size=3,
)


@pytest.fixture
def checkpoint(tmp_path):
  """A folder with the marks of an Orbax checkpoint, and nothing else."""
  folder = tmp_path / 'checkpoint_1'
  for part in ('state', 'dataset'):
    (folder / part).mkdir(parents=True)
  (folder / 'state' / 'manifest.ocdbt').write_bytes(b'')
  return folder


@_FUZZ
@given(
  content=st.binary(max_size=60)
  | _TREES.map(lambda t: json.dumps(t).encode())
  | _LEAVES.map(lambda t: json.dumps({'tree_metadata': t}).encode())
)
def test_orbax_metadata(checkpoint, content):
  (checkpoint / 'state' / '_METADATA').write_bytes(content)
  (checkpoint / 'dataset' / 'metadata').write_bytes(content)
  checkpoints.all_steps(checkpoint.parent)
  try:
    opened = checkpoints.load_t5x_checkpoint(str(checkpoint))
    assert isinstance(opened, dict)
  except errors.UserError as error:
    assert str(checkpoint) in str(error)
  try:
    position = orbax.read_position(str(checkpoint))
    assert isinstance(position, dict)
  except errors.UserError as error:
    assert str(checkpoint) in str(error)


@_FUZZ
@given(
  content=st.binary(max_size=60)
  | _TREES.map(
    lambda t: flax.serialization.msgpack_serialize(
      {'version': 3, 'optimizer': {'target': t, 'state': {}}}
    )
  )
)
def test_a_legacy_index(tmp_path, content):
  (tmp_path / 'checkpoint').write_bytes(content)
  try:
    legacy_t5x.read(str(tmp_path))
  except errors.UserError as error:
    assert str(tmp_path) in str(error)


@_FUZZ
@given(
  content=st.binary(max_size=40) | _TREES.map(lambda t: json.dumps(t).encode())
)
def test_the_files_of_a_run(tmp_path, content):
  for name in (identity.FILE, integrity.CHECKSUMS_FILE):
    (tmp_path / name).write_bytes(content)
  (tmp_path / identity.EVALUATED_FILE).write_bytes(content)
  for read in (identity.stored_seed, integrity.check):
    try:
      read(str(tmp_path))
    except errors.UserError as error:
      assert str(tmp_path) in str(error)
  assert not identity.Evaluated(str(tmp_path)).is_missing(1)


@_FUZZ
@given(
  name=st.text(max_size=12) | _NAMES,
  value=st.text(max_size=20) | _TREES.map(repr) | _NAMES,
)
def test_a_macro_is_taken_or_refused_and_never_run(tmp_path, name, value):
  marker = tmp_path / 'run'
  value = value.replace('"os"', f'"os").mkdir("{marker}"')
  targets.taken_or_refused(name, value)
  assert not marker.exists()
