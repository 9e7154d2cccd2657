"""Folders and archives in the published layout, and what is none."""

import types
import zipfile

import pytest

from dss_jax import errors
from dss_jax.data import archive, records


@pytest.mark.parametrize('files', [8, 9])
def test_what_a_folder_of_something_else_holds_is_shown(tmp_path, files):
  for number in range(files):
    (tmp_path / f'{number}.txt').write_text('')
  with pytest.raises(errors.DataError) as caught:
    records.read('cqa', str(tmp_path))
  shown = ', '.join(f'{number}.txt' for number in range(8))
  assert f'found {shown}{", …" if files > 8 else ""}. Give' in str(caught.value)


def _zip(path, members):
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as file:
    for name, text in members.items():
      file.writestr(name, text)
  return str(path)


def test_what_a_zip_of_something_else_holds_is_shown(tmp_path):
  path = _zip(tmp_path / 'a.zip', {'b/c.json': '', 'd.txt': ''})
  with pytest.raises(errors.DataError, match=r'found b/c\.json, d\.txt\. Give'):
    records.read('cqa', path)


def test_a_zip_lists_the_files_of_a_folder_alone(tmp_path):
  """Else a folder within it is taken for a teacher's output."""
  members = ('', 'cqa_train.json', 'mine/', 'mine/b.json', 'mine/a.json')
  names = [f'cqa/{name}' for name in (*members, 'mine/deep/c.json', 'mine2/d')]
  path = _zip(tmp_path / 'a.zip', dict.fromkeys(names, 'x'))
  with archive.open_files(path, 'cqa') as files:
    assert files.list('mine') == ['a.json', 'b.json']
    assert files.list('gone') == []
  with zipfile.ZipFile(path) as file:
    file.extractall(tmp_path / 'folder')
  with archive.open_files(str(tmp_path / 'folder'), 'cqa') as files:
    assert {*files.list('mine')} == {'a.json', 'b.json', 'deep'}
    assert files.list('gone') == []
    with pytest.raises(
      errors.DataError, match='mine: expected a file that can'
    ):
      files.read('mine')


def test_a_member_may_be_as_long_as_the_bound(write_release, monkeypatch):
  folder = write_release()
  texts = {
    str(path.relative_to(folder)): path.read_text()
    for path in folder.rglob('*.json')
  }
  path = _zip(folder / 'a.zip', texts)
  rows = records.read('cqa', path)
  largest = max(map(len, texts.values()))
  monkeypatch.setattr(archive, 'MAX_MEMBER_BYTES', largest)
  # What is large may be text, which packs some tenfold.
  monkeypatch.setattr(archive, '_SMALL_BYTES', 100)
  assert records.read('cqa', path) == rows
  monkeypatch.setattr(archive, 'MAX_MEMBER_BYTES', largest - 1)
  with pytest.raises(errors.DataError, match=f'at most {largest - 1} bytes'):
    records.read('cqa', path)


def test_a_small_member_may_be_as_dull_as_it_likes(write_release):
  folder = write_release()
  dull = folder / 'cqa/cqa_train.json'
  dull.write_text(dull.read_text() + ' ' * 2**20)
  path = _zip(
    folder / 'a.zip',
    {
      str(path.relative_to(folder)): path.read_text()
      for path in folder.rglob('*.json')
    },
  )
  assert len(records.read('cqa', path).splits['train']) == 24


def test_the_state_of_a_remote_file_is_its_size_and_time(
  write_release, monkeypatch
):
  folder = write_release()
  stat = (folder / 'cqa/cqa_train.json').stat()
  with archive.open_files(str(folder), 'cqa') as files:
    state = files.state('cqa_train.json')
    assert state == (stat.st_size, stat.st_mtime_ns)

    def fail(path):
      raise OSError('no such disk')

    monkeypatch.setattr(archive, 'os', types.SimpleNamespace(stat=fail))
    state = files.state('cqa_train.json')
  assert state == (stat.st_size, int(stat.st_mtime))
