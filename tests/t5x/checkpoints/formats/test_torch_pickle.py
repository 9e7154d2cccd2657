"""Files of torch.save: read right without torch, and never executed.

`tests/golden/torch_files/make.py` says how the real torch made the files.
"""

import importlib.util
import os
import pathlib
import pickle
import struct
import sys
import zipfile

import numpy as np
import pytest

from t5x.checkpoints.formats import torch_pickle
from t5x.errors import UserError
from tests import golden_data

FOLDER = pathlib.Path(golden_data.__file__).parent / 'golden' / 'torch_files'
FILES = ('tensors.zip.bin', 'tensors.legacy.bin')
MADE_NOW = ['made now'] if importlib.util.find_spec('torch') else []


@pytest.mark.parametrize('file', [*FILES, *MADE_NOW])
def test_every_tensor_is_the_one_that_torch_saved(file, tmp_path):
  with np.load(FOLDER / 'tensors.npz') as arrays:
    expected = dict(arrays)
  path = FOLDER / file
  if file == 'made now':
    path = _save_with_torch(tmp_path)
  found = torch_pickle.open_file(path)
  assert found.keys() == expected.keys()
  for name, lazy in found.items():
    value = lazy.get()
    assert value.dtype == lazy.dtype
    # All of them are exact in float64.
    np.testing.assert_array_equal(value.astype(np.float64), expected[name])
  types = {name: lazy.dtype.name for name, lazy in found.items()}
  for name in ('float16', 'bfloat16', 'float32', 'float64', 'int64'):
    assert types[name] == name


def _save_with_torch(tmp_path):
  spec = importlib.util.spec_from_file_location('make', FOLDER / 'make.py')
  make = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(make)
  make.torch.save(make.tensors(), tmp_path / 'made.bin')
  return tmp_path / 'made.bin'


@pytest.mark.parametrize('file', FILES)
def test_a_slice_of_a_view_is_that_slice(file):
  with np.load(FOLDER / 'tensors.npz') as arrays:
    expected = dict(arrays)
  found = torch_pickle.open_file(FOLDER / file)
  index = (slice(1, 3), slice(0, 2))
  for name in ('turned', 'part', 'repeated'):
    np.testing.assert_array_equal(
      found[name].start_read(index).result(), np.float32(expected[name][index])
    )


def as_zip(path, pickled):
  """A file in torch's zip format around any pickle."""
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('archive/data.pkl', pickled)
    archive.writestr('archive/byteorder', 'little')
    archive.writestr('archive/data/0', np.arange(6, dtype='<f4').tobytes())
    archive.writestr('archive/version', '3\n')


MAGIC = 0x1950A86A20F9469CFC6C


def as_legacy(path, pickled, magic=MAGIC, version=1001, system=None):
  """A file in torch's older format around any pickle."""
  parts = [pickle.dumps(x, 2) for x in (magic, version)]
  parts.append(system or pickle.dumps({'little_endian': True}, 2))
  numbers = struct.pack('<q', 6) + np.arange(6, dtype='<f4').tobytes()
  path.write_bytes(b''.join(parts) + pickled + pickle.dumps(['0'], 2) + numbers)


class Calls:
  """Pickles as a call of any function."""

  def __init__(self, function, *args):
    self._reduced = function, args

  def __reduce__(self):
    return self._reduced


def a_global(module, name):
  return b'c' + f'{module}\n{name}\n'.encode()


FLOATS = a_global('torch', 'FloatStorage')


def a_storage(
  word=b'storage',
  kind=FLOATS,
  size=b'K\x06',
  more=b'',
):
  key = b'X\x01\x00\x00\x000X\x03\x00\x00\x00cpu'
  return b'(X\x07\x00\x00\x00' + word + kind + key + size + more + b'tQ'


# The tensor `[0..5]` of storage 0, in opcodes; {shape} and alike are filled in.
def a_tensor(
  shape=b'K\x06\x85',
  stride=b'K\x01\x85',
  size=b'K\x06',
  offset=b'K\x00',
  storage=None,
):
  return (
    a_global('torch._utils', '_rebuild_tensor_v2')
    + b'('
    + (storage or a_storage(size=size))
    + offset
    + shape
    + stride
    + b'\x89'
    + a_global('collections', 'OrderedDict')
    + b')RtR'
  )


def a_dict(value, protocol=b'\x80\x02'):
  return protocol + b'}X\x01\x00\x00\x00w' + value + b's.'


def test_the_pickles_of_these_tests_are_what_torch_would_read(tmp_path):
  for write in (as_zip, as_legacy):
    write(tmp_path / 'x.bin', a_dict(a_tensor()))
    found = torch_pickle.open_file(tmp_path / 'x.bin')
    np.testing.assert_array_equal(found['w'].get(), np.arange(6))


@pytest.mark.parametrize(
  ('tensor', 'expected'),
  [
    (a_tensor(shape=b'K\x05\x85', offset=b'K\x01'), [1, 2, 3, 4, 5]),
    (a_tensor(shape=b'K\x02\x85', stride=b'K\x05\x85'), [0, 5]),
    (a_tensor(shape=b'K\x03K\x02\x86', stride=b'K\x00K\x04\x86'), [[0, 4]] * 3),
    # Nothing goes beyond nothing.
    (
      a_tensor(shape=b'K\x00K\x09\x86', stride=b'K\x01K\x01\x86'),
      np.zeros((0, 9)),
    ),
    # Of the storage, torch names no view; newer ones say so.
    (a_tensor(storage=a_storage(more=b'N')), range(6)),
  ],
)
def test_what_is_just_inside_of_the_numbers_is_read(tensor, expected, tmp_path):
  """Else a good file is refused, or its last numbers are."""
  for write in (as_zip, as_legacy):
    write(tmp_path / 'x.bin', a_dict(tensor))
    found = torch_pickle.open_file(tmp_path / 'x.bin')['w'].get()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array(expected))


def test_names_of_old_and_new_pickles_are_read(tmp_path):
  """Python 2's texts are bytes; protocol 4 numbers what it keeps itself."""
  old = b'\x80\x02}U\x02\xc3\xa9' + a_tensor() + b's.'
  new = (
    b'\x80\x04}\x94X\x01\x00\x00\x00w\x94' + a_tensor()
    + b'\x94sX\x01\x00\x00\x00vh\x02s.'
  )  # fmt: skip
  far = b'\x80\x02}q\x07X\x01\x00\x00\x00w' + a_tensor() + b'q\x05s'
  far += b'X\x01\x00\x00\x00vh\x05s.'
  for pickled, names in ((old, ['é']), (new, ['w', 'v']), (far, ['w', 'v'])):
    as_zip(tmp_path / 'x.bin', pickled)
    found = torch_pickle.open_file(tmp_path / 'x.bin')
    assert list(found) == names
    for name in names:
      np.testing.assert_array_equal(found[name].get(), np.arange(6))


def nested(depth):
  """A pickle of lists in lists, of which the innermost is empty."""
  return b']' * depth + b'a' * (depth - 1)


def nested_by_memo(depth):
  """The same, of which the stack never holds more than two lists."""
  steps = (
    b']h' + bytes([i]) + b'aq' + bytes([i + 1]) for i in range(depth - 1)
  )
  return b']q\x00' + b''.join(b'0' + step for step in steps)


@pytest.mark.parametrize('lists', [nested, nested_by_memo])
def test_a_pickle_may_be_as_deep_as_tensors_need_and_no_deeper(lists, tmp_path):
  """Else its author can end the process, by an overflow of the stack."""
  path = tmp_path / 'x.bin'
  # With the tuple and the dict that it is in, and the end of the pickle.
  for depth in (37, 38):
    as_legacy(path, a_dict(a_tensor()), system=a_dict(lists(depth) + b'\x85'))
    if depth == 37:
      assert list(torch_pickle.open_file(path)) == ['w']
      continue
    with pytest.raises(UserError, match='objects in objects, 41 deep'):
      torch_pickle.open_file(path)


@pytest.mark.parametrize('place', [10**7, 10**7 + 1])
def test_a_pickle_may_keep_so_many_objects_and_no_more(place, tmp_path):
  """Else its author can fill the memory, by naming one place."""
  kept = b'r' + struct.pack('<I', place)
  as_zip(tmp_path / 'x.bin', a_dict(a_tensor() + kept))
  if place == 10**7:
    assert list(torch_pickle.open_file(tmp_path / 'x.bin')) == ['w']
    return
  with pytest.raises(UserError, match='it has room for 10000001 objects'):
    torch_pickle.open_file(tmp_path / 'x.bin')


def attacks():
  """Pickles that do harm where Python's own loader loads them."""
  mark = 'touch EXECUTED'
  rebuild = a_global('torch._utils', '_rebuild_tensor_v2')
  return {
    'os.system': pickle.dumps({'w': Calls(os.system, mark)}, 2),
    'builtins.exec': pickle.dumps(
      {'w': Calls(exec, "open('EXECUTED', 'w')")}, 2
    ),
    'builtins.getattr': pickle.dumps({'w': Calls(getattr, 1, 'real')}, 4),
    'a name inside of a name': a_dict(
      b'X\x0b\x00\x00\x00collectionsX\x14\x00\x00\x00OrderedDict.__init__\x93',
      b'\x80\x04',
    ),
    'torch.load': a_dict(a_global('torch', 'load')),
    'torch.storage._load_from_bytes': a_dict(
      a_global('torch.storage', '_load_from_bytes') + b'(C\x03abctR',
      b'\x80\x03',
    ),
    'changes a function': a_dict(
      rebuild + b'}X\x0c\x00\x00\x00__defaults__)sb'
    ),
    'changes a function by its slots': a_dict(
      rebuild + b'N}X\x05\x00\x00\x00_callNs\x86b'
    ),
    'a storage of its own': a_dict(
      a_global('torch', 'FloatStorage') + b'(K\x06tR'
    ),
    'another persistent object': a_dict(b'X\x03\x00\x00\x00abcQ'),
    'no tensor': a_dict(b'K\x07'),
    'no dict': pickle.dumps([1, 2], 2),
    'a tensor of no storage': a_dict(rebuild + b'(K\x01K\x00))tR'),
    'a parameter of no tensor': a_dict(
      a_global('torch._utils', '_rebuild_parameter') + b'(K\x01tR'
    ),
    'a number': a_dict(b'K\x07Q'),
    'a list': a_dict(a_storage().replace(b'(', b'](', 1)[:-2] + b'eQ'),
    'too little of a storage': a_dict(a_storage(size=b'')),
    'a word before': a_dict(a_tensor(storage=a_storage(b'storagd'))),
    'a word after': a_dict(a_tensor(storage=a_storage(b'storagf'))),
    'a view': a_dict(a_tensor(storage=a_storage(more=b'K\x00'))),
    'a type that is none': a_dict(
      a_storage(kind=a_global('collections', 'OrderedDict'))
    ),
    'a type that nobody can look up': a_dict(a_storage(kind=b']')),
  }


@pytest.mark.parametrize('write', [as_zip, as_legacy])
@pytest.mark.parametrize('attack', attacks())
def test_what_is_no_dict_of_tensors_is_refused_and_nothing_runs(
  attack, write, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  # Python imports some of its own when it first opens an archive.
  torch_pickle.open_file(FOLDER / FILES[0])
  before = dict(vars(torch_pickle))
  modules = set(sys.modules)
  write(tmp_path / 'x.bin', attacks()[attack])
  with pytest.raises(UserError, match=r'was not loaded: .*Nothing of it was'):
    torch_pickle.open_file(tmp_path / 'x.bin')
  assert [p.name for p in tmp_path.iterdir()] == ['x.bin']
  assert vars(torch_pickle) == before
  assert set(sys.modules) == modules


REFUSALS = {
  'os.system': rf'it asks for {os.system.__module__}\.system',
  'torch.load': r'it asks for torch\.load',
  'changes a function': r'it changes torch\._utils\._rebuild_tensor_v2',
  'a storage of its own': 'it makes a storage other than',
  'another persistent object': 'it asks for an object outside',
  'no tensor': 'w is not a tensor',
  'no dict': 'it is not a dict of tensors',
  'a tensor of no storage': 'a tensor has no storage',
  'a parameter of no tensor': 'a parameter is not a tensor',
  'a number': 'it asks for an object outside',
  'a list': 'it asks for an object outside',
  'too little of a storage': 'it asks for an object outside',
  'a word before': 'it asks for an object outside',
  'a word after': 'it asks for an object outside',
  'a view': 'it asks for a view of a storage',
  'a type that is none': 'it asks for a storage of an unknown type',
  'a type that nobody can look up': 'it asks for a storage of an unknown type',
}


@pytest.mark.parametrize(('attack', 'reason'), REFUSALS.items())
def test_a_refusal_names_what_the_pickle_asked_for(attack, reason, tmp_path):
  as_zip(tmp_path / 'x.bin', attacks()[attack])
  with pytest.raises(UserError, match=rf'x\.bin: .* loaded: {reason}'):
    torch_pickle.open_file(tmp_path / 'x.bin')


@pytest.mark.parametrize(
  'tensor',
  [
    a_tensor(shape=b'K\x07\x85'),
    a_tensor(shape=b'K\x07\x85', size=b'K\x09'),
    a_tensor(stride=b'K\x02\x85'),
    a_tensor(stride=b'J\xff\xff\xff\xff\x85'),
    a_tensor(shape=b'K\x02K\x03\x86'),
    a_tensor(offset=b'K\x01'),
    a_tensor(shape=b'K\x01\x85', offset=b'K\x06'),
    a_tensor(offset=b'J\xff\xff\xff\xff'),
    a_tensor(shape=b'K\x04\x85', stride=b'K\x03\x85'),
    a_tensor(size=b'K\x05'),
    a_tensor(shape=b'K\x02K\x03\x86', stride=b'K\x04K\x01\x86'),
    a_tensor(shape=b'K\x01K\x07\x86', stride=b'K\x07K\x01\x86'),
  ],
  ids=[
    *('size', 'size and storage', 'stride', 'negative', 'ranks', 'offset'),
    *('one', 'before', 'steps', 'storage', 'strides', 'one row'),
  ],
)
def test_a_tensor_never_reaches_beyond_its_numbers(tensor, tmp_path):
  as_zip(tmp_path / 'x.bin', a_dict(tensor))
  with pytest.raises(UserError, match=r'cannot be read as a PyTorch file'):
    torch_pickle.open_file(tmp_path / 'x.bin')


@pytest.mark.parametrize('file', FILES)
@pytest.mark.parametrize('kept', [0.0, 0.02, 0.4, 0.9, 0.98])
def test_a_file_that_was_cut_short_is_named(file, kept, tmp_path):
  whole = (FOLDER / file).read_bytes()
  path = tmp_path / 'cut.bin'
  path.write_bytes(whole[: int(kept * len(whole))])
  with pytest.raises(UserError, match=r'cut\.bin: cannot be read as a PyTorch'):
    torch_pickle.open_file(path)


def test_compressed_members_and_other_byte_orders_are_refused(tmp_path):
  path = tmp_path / 'x.bin'
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
    archive.writestr('archive/data.pkl', a_dict(a_tensor()))
  with pytest.raises(UserError, match=r'archive/data\.pkl is compressed'):
    torch_pickle.open_file(path)
  for order in ('big', 'mixed'):
    with zipfile.ZipFile(path, 'w') as archive:
      archive.writestr('archive/data.pkl', a_dict(a_tensor()))
      archive.writestr('archive/byteorder', order)
    with pytest.raises(UserError, match=f'order is {order}, expected little'):
      torch_pickle.open_file(path)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'magic': MAGIC - 1}, 'neither a zip archive nor a pickle of torch'),
    ({'magic': MAGIC + 1}, 'neither a zip archive nor a pickle of torch'),
    ({'version': 1000}, 'an unknown version of torch'),
    ({'version': 1002}, 'an unknown version of torch'),
    (
      {'system': pickle.dumps({'little_endian': False}, 2)},
      'byte order is big, expected little',
    ),
  ],
)
def test_older_files_of_others_are_named(changes, message, tmp_path):
  as_legacy(tmp_path / 'x.bin', a_dict(a_tensor()), **changes)
  with pytest.raises(UserError, match=message):
    torch_pickle.open_file(tmp_path / 'x.bin')


def test_older_files_need_not_say_their_order(tmp_path):
  path = tmp_path / 'x.bin'
  as_legacy(path, a_dict(a_tensor()), system=pickle.dumps({}, 2))
  np.testing.assert_array_equal(
    torch_pickle.open_file(path)['w'].get(), np.arange(6)
  )
  # The last byte belongs to the numbers.
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(UserError, match='the file ends inside the numbers of w'):
    torch_pickle.open_file(path)


def test_numbers_that_are_not_where_they_should_be_are_named(tmp_path):
  path = tmp_path / 'x.bin'
  as_zip(path, a_dict(a_tensor()))
  whole = path.read_bytes()
  at = whole.index(b'archive/data/0') - 30
  assert whole[at : at + 4] == b'PK\x03\x04'
  for other in (b'PK\x03\x03', b'PK\x03\x05'):
    path.write_bytes(whole[:at] + other + whole[at + 4 :])
    with pytest.raises(UserError, match='archive/data/0 has no header'):
      torch_pickle.open_file(path)
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('archive/data.pkl', a_dict(a_tensor()))
  with pytest.raises(UserError, match='the numbers of w are missing'):
    torch_pickle.open_file(path)


def test_a_tensor_may_reach_to_the_end_of_its_numbers(tmp_path):
  for tensor, expected in (
    (a_tensor(offset=b'K\x02', shape=b'K\x04\x85'), [2, 3, 4, 5]),
    (
      a_tensor(shape=b'K\x02K\x03\x86', stride=b'K\x03K\x01\x86'),
      [[0, 1, 2], [3, 4, 5]],
    ),
    (a_tensor(shape=b'K\x00\x85', stride=b'K\x01\x85'), []),
  ):
    as_zip(tmp_path / 'x.bin', a_dict(tensor))
    found = torch_pickle.open_file(tmp_path / 'x.bin')['w']
    np.testing.assert_array_equal(found.get(), expected)


def test_an_empty_tensor_needs_no_numbers(tmp_path):
  with zipfile.ZipFile(tmp_path / 'x.bin', 'w') as archive:
    tensor = a_tensor(shape=b'K\x00\x85', size=b'K\x00')
    archive.writestr('archive/data.pkl', a_dict(tensor))
    archive.writestr('archive/data/0', b'')
  found = torch_pickle.open_file(tmp_path / 'x.bin')['w']
  assert found.get().shape == (0,)


def test_numbers_that_are_not_there_are_named(tmp_path):
  with zipfile.ZipFile(tmp_path / 'x.bin', 'w') as archive:
    archive.writestr('archive/data.pkl', a_dict(a_tensor()))
  with pytest.raises(UserError, match='the numbers of w are missing'):
    torch_pickle.open_file(tmp_path / 'x.bin')
  as_legacy(tmp_path / 'y.bin', a_dict(a_tensor()))
  os.truncate(tmp_path / 'y.bin', (tmp_path / 'y.bin').stat().st_size - 4)
  with pytest.raises(UserError, match='ends inside the numbers of w'):
    torch_pickle.open_file(tmp_path / 'y.bin')


@pytest.mark.parametrize('mark', [b'\0\0\0\0', b'\xff\xff\xff\xff'])
def test_numbers_without_their_header_are_named(tmp_path, mark):
  path = tmp_path / 'x.bin'
  as_zip(path, a_dict(a_tensor()))
  with zipfile.ZipFile(path) as archive:
    start = archive.getinfo('archive/data/0').header_offset
  content = bytearray(path.read_bytes())
  content[start : start + 4] = mark
  path.write_bytes(content)
  with pytest.raises(UserError, match='archive/data/0 has no header'):
    torch_pickle.open_file(path)


_MAGIC = 0x1950A86A20F9469CFC6C


@pytest.mark.parametrize(
  ('magic', 'protocol', 'system', 'said'),
  [
    (_MAGIC, 1001, {'little_endian': True}, None),
    (_MAGIC, 1001, {}, None),
    (_MAGIC, 1001, {'little_endian': False}, 'byte order is big'),
    (_MAGIC - 1, 1001, {}, 'neither a zip archive nor'),
    (_MAGIC + 1, 1001, {}, 'neither a zip archive nor'),
    (_MAGIC, 1000, {}, 'an unknown version of torch'),
    (_MAGIC, 1002, {}, 'an unknown version of torch'),
  ],
)
@pytest.mark.parametrize('form', [0, 2])
def test_a_file_of_the_older_format_says_what_it_is(
  tmp_path, magic, protocol, system, said, form
):
  path = tmp_path / 'x.bin'
  as_legacy(path, a_dict(a_tensor()))
  old = [pickle.dumps(x, 2) for x in (_MAGIC, 1001, {'little_endian': True})]
  rest = path.read_bytes().removeprefix(b''.join(old))
  new = [pickle.dumps(x, form) for x in (magic, protocol, system)]
  path.write_bytes(b''.join(new) + rest)
  if said is None:
    found = torch_pickle.open_file(path)['w']
    np.testing.assert_array_equal(found.get(), np.arange(6))
  else:
    with pytest.raises(UserError, match=said):
      torch_pickle.open_file(path)


@pytest.mark.parametrize('order', ['big', 'unknown'])
def test_another_order_of_bytes_is_refused(tmp_path, order):
  with zipfile.ZipFile(tmp_path / 'x.bin', 'w') as archive:
    archive.writestr('archive/data.pkl', a_dict(a_tensor()))
    archive.writestr('archive/byteorder', order)
  with pytest.raises(UserError, match=f'byte order is {order}, expected'):
    torch_pickle.open_file(tmp_path / 'x.bin')


def _a_pid(*parts):
  return a_dict(b'(' + b''.join(parts) + b'tQ')


_STORAGE = b'X\x07\x00\x00\x00storage', a_global('torch', 'FloatStorage')
_REST = b'X\x01\x00\x00\x000', b'X\x03\x00\x00\x00cpu', b'K\x06'


@pytest.mark.parametrize(
  ('pickled', 'said'),
  [
    (_a_pid(*_STORAGE, *_REST[:2]), 'an object outside of itself'),
    (_a_pid(b'K\x01', _STORAGE[1], *_REST), 'an object outside of itself'),
    (
      a_dict(b'(' + b''.join([*_STORAGE, *_REST]) + b'lQ'),
      'an object outside of itself',
    ),
    (_a_pid(*_STORAGE, *_REST, b'K\x01'), 'a view of a storage'),
    (_a_pid(_STORAGE[0], b'K\x01', *_REST), 'storage of an unknown type'),
    (
      _a_pid(_STORAGE[0], a_global('collections', 'OrderedDict'), *_REST),
      'storage of an unknown type',
    ),
    # A storage is fine, but not instead of a tensor.
    (_a_pid(*_STORAGE, *_REST), 'w is not a tensor'),
    (_a_pid(*_STORAGE, *_REST, b'N'), 'w is not a tensor'),
    (b'\x80\x02]r\x81\x96\x98\x00.', 'has room for 10000001 objects'),
    (b'\x80\x02]r\xa0\x86\x01\x00.', 'it is not a dict of tensors'),
    (
      a_dict(a_global('torch._utils', '_rebuild_parameter') + b'(K\x01\x89NtR'),
      'a parameter is not a tensor',
    ),
  ],
)
def test_each_refusal_says_why(tmp_path, pickled, said):
  as_zip(tmp_path / 'x.bin', pickled)
  with pytest.raises(UserError, match=f'was not loaded: .*{said}'):
    torch_pickle.open_file(tmp_path / 'x.bin')


def _nested(depth):
  """Objects in objects: one by one, by marks, and through the memo."""
  return [
    b'\x80\x02' + b']' * depth + b'a' * (depth - 1) + b'.',
    b'\x80\x02' + b'(' * depth + b'l' * depth + b'.',
    b'\x80\x02)' + b'q\x00h\x00\x86' * (depth - 1) + b'.',
    b'\x80\x02)' + b'q\x000h\x00\x85' * (depth - 1) + b'.',
    b'\x80\x04)' + b'\x94h\x00\x85' * 1 + b'\x85' * (depth - 2) + b'.',
  ]


@pytest.mark.parametrize('form', range(5))
def test_objects_in_objects_are_counted_in_every_form(tmp_path, form):
  """Else Python's loader, or what frees them, runs out of its stack."""
  said = {}
  for depth in range(36, 44):
    as_zip(tmp_path / 'x.bin', _nested(depth)[form])
    with pytest.raises(UserError, match='was not loaded') as raised:
      torch_pickle.open_file(tmp_path / 'x.bin')
    said[depth] = 'objects in objects, 41 deep' in str(raised.value)
  # The last instruction counts as one more.
  first = min(depth for depth, refused in said.items() if refused)
  assert first == 40 and all(said[d] == (d >= first) for d in said)
