"""Errors of storage say what is true, and what to do."""

import errno
import os

import pytest
import tensorflow as tf

from t5x import errors, files


def _told(error, folder='/runs/a', name='MODEL_DIR'):
  return str(files.storage_error(error, folder, name))


@pytest.mark.parametrize(
  ('number', 'fix'),
  [
    (errno.ENOSPC, 'The disk is full: free some space.'),
    (errno.EDQUOT, 'Your quota is used up: free some space.'),
    (
      errno.EROFS,
      'That place is read-only: make it writable, or choose another MODEL_DIR.',
    ),
    (errno.EACCES, 'You may not write there: choose another MODEL_DIR.'),
  ],
)
def test_a_file_in_the_folder_cannot_be_written(number, fix):
  error = OSError(number, os.strerror(number), '/runs/a/checkpoint_3/x')
  assert _told(error) == (
    f'/runs/a/checkpoint_3/x: cannot be written ({error}). {fix}'
  )


def test_a_disk_that_fills_up_names_the_file_that_is_written(tmp_path):
  with (
    pytest.raises(OSError, match='No space left') as raised,
    files.replacing(tmp_path / 'page.html'),
    open('/dev/full', 'wb', buffering=0) as full,
  ):
    full.write(b'x')
  assert raised.value.filename == str(tmp_path / 'page.html')
  assert not list(tmp_path.iterdir())


def test_an_error_from_before_anything_was_written_stays(tmp_path):
  path = tmp_path / 'page.html'
  path.write_text('old')
  for error, name in (
    (OSError(errno.EIO, 'a disk', 'of another file'), 'of another file'),
    (OSError('no number'), None),
    (ZeroDivisionError(), None),
  ):
    with pytest.raises(type(error)) as raised, files.replacing(path) as work:
      assert str(os.getpid()) in work.name  # Of this process alone.
      raise error
    assert raised.value is error
    assert getattr(error, 'filename', None) == name
  assert path.read_text() == 'old'


def test_errors_that_name_no_file():
  full = OSError(errno.ENOSPC, 'full')
  assert str(files.storage_error(full)).startswith('A file: cannot be written')
  denied = PermissionError(errno.EACCES, 'denied')
  told = str(files.storage_error(denied))
  assert told.startswith('A file that was to be read: cannot be opened')
  said = errors.UserError('No space left for another label.')
  with (
    pytest.raises(errors.UserError) as raised,
    files.naming_path_in_errors('/runs/a'),
  ):
    raise said
  assert raised.value is said


@pytest.mark.parametrize('path', ['/data/rows.jsonl', '/runs/ab/rows.jsonl'])
def test_a_data_file_that_may_not_be_read_is_no_matter_of_the_folder(path):
  told = _told(PermissionError(errno.EACCES, 'Permission denied', path))
  assert told.startswith(f'{path}: cannot be opened (')
  assert 'that you may read it' in told
  assert 'MODEL_DIR' not in told


def test_tensorflow_s_errors_are_told_by_their_text():
  def denied(path):
    return tf.errors.PermissionDeniedError(
      None, None, f'{path}; Permission denied'
    )

  assert 'choose another OUT' in _told(denied('/runs/a/x'), name='OUT')
  told = _told(denied('/data/train.tfrecord'))
  assert '/data/train.tfrecord' in told
  assert 'may read it' in told
  full = tf.errors.ResourceExhaustedError(None, None, 'x; No space left on')
  assert _told(full).endswith('The disk is full: free some space.')
  flushed = tf.errors.PermissionDeniedError(
    None, None, '{{function_node f}} /runs/a/x; Read-only file system\n\tagain'
  )
  assert '(/runs/a/x; Read-only file system). That place' in _told(flushed)


def test_other_errors_are_not_the_user_s():
  assert files.storage_error(ValueError('x')) is None
  assert files.storage_error(FileNotFoundError(errno.ENOENT, 'x', 'y')) is None
  with (
    pytest.raises(ValueError, match=r'^x$'),
    files.naming_path_in_errors('a'),
  ):
    raise ValueError('x')


def test_an_error_is_told_with_its_consequence():
  with (
    pytest.raises(
      errors.UserError, match=r'^/runs/a: cannot .* space\. It was /runs/a$'
    ),
    files.naming_path_in_errors('/runs/a', lambda folder: f' It was {folder}'),
  ):
    raise OSError(errno.ENOSPC, 'No space left on device')


def test_a_working_folder_that_is_gone_is_what_is_wrong(tmp_path, monkeypatch):
  folder = tmp_path / 'gone'
  folder.mkdir()
  monkeypatch.chdir(folder)
  folder.rmdir()
  with pytest.raises(FileNotFoundError) as raised:
    os.path.abspath('rows.jsonl')
  told = files.storage_error(raised.value)
  assert 'started in is gone' in str(told) and told.exit_code == 2
  monkeypatch.undo()
  assert files.storage_error(raised.value) is None
