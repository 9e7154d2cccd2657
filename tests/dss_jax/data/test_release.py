"""Tests of fetching the published archive, from a server of the test's own."""

import hashlib
import http.server
import io
import json
import shutil
import threading
import zipfile

import pytest
from etils import epath

from dss_jax import errors
from dss_jax.data import release, tfds_builders


def prepare(data_set='cqa', teacher='palm'):
  config = tfds_builders.find_config(data_set, 'release', teacher)
  return tfds_builders.prepared(data_set, config)


def test_rows_are_those_of_the_papers_table():
  # Where the authors set a validation split apart, its rows are train's here.
  assert release.ROWS == {
    'esnli': {'train': 549_367, 'validation': 9_842, 'test': 9_824},
    'anli1': {'train': 16_946, 'validation': 1_000, 'test': 1_000},
    'cqa': {'train': 8_766 + 975, 'test': 1_221},
    'svamp': {'train': 720 + 80, 'test': 200},
  }


@pytest.fixture
def rows(monkeypatch):
  """Has the published archive be as small as a test's."""
  monkeypatch.setattr(release, 'ROWS', {'cqa': {'train': 24, 'test': 6}})


@pytest.fixture
def archive(write_release):
  """The bytes of an archive in the published layout."""
  folder, data = write_release(), io.BytesIO()
  with zipfile.ZipFile(data, 'w', zipfile.ZIP_DEFLATED) as file:
    for path in sorted(folder.rglob('*.json')):
      file.write(path, f'datasets/{path.relative_to(folder)}')
  return data.getvalue()


@pytest.fixture
def serve(monkeypatch):
  """Returns a function that serves bytes and lists what was asked for."""
  servers = []

  def start(data, length=None, status=200):
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
      def do_GET(self):
        asked.append(self.path)
        self.send_response(status)
        if length != 'none':
          self.send_header('Content-Length', str(length or len(data)))
        self.end_headers()
        self.wfile.write(data)

      def log_message(self, *args):
        pass

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    servers.append(server)
    url = f'http://127.0.0.1:{server.server_port}/datasets.zip'
    monkeypatch.setenv('DSS_RELEASE_URL', url)
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    return asked

  yield start
  for server in servers:
    server.shutdown()
    server.server_close()


def test_the_release_is_fetched_once_and_kept(
  rows, archive, serve, tfds_dir, capsys
):
  asked = serve(archive)
  assert prepare().info.splits['train'].num_examples == 24
  tfds_builders._PREPARED.clear()
  assert prepare(teacher=None).info.splits['test'].num_examples == 6
  assert asked == ['/datasets.zip']
  kept = tfds_dir / release.PLACES[1]
  assert kept.read_bytes() == archive
  assert [path.name for path in kept.parent.glob('*.zip')] == [kept.name]
  said = capsys.readouterr()
  assert f'to {kept}, once.' in said.err
  assert 'Prepared train 24, test 6 rows in ' in said.err
  assert not said.out
  digest = hashlib.sha256(archive).hexdigest()
  assert f'Fetched {len(archive)} bytes, SHA-256 {digest}.' in said.err
  assert len(said.err.splitlines()) == 6
  # What is prepared needs the archive no more, which never changes.
  kept.unlink()
  tfds_builders._PREPARED.clear()
  assert prepare().info.splits['train'].num_examples == 24
  assert asked == ['/datasets.zip']


def test_a_server_need_not_say_how_long_the_archive_is(
  rows, archive, serve, tmp_path
):
  serve(archive, length='none')
  path = release.fetch(epath.Path(tmp_path / 'new' / 'tfds'))
  assert path.read_bytes() == archive


def test_the_archive_has_no_other_data_sets():
  for data_set in ('anli1', 'cqa', 'esnli', 'svamp'):
    release.check_published(data_set)
  with pytest.raises(
    errors.DataError, match="data set is 'asdiv': expected on"
  ):
    release.check_published('asdiv')


def with_other_method(data):
  """Says of a member that it is packed in a way that nobody knows."""
  begin = data.index(b'PK\x01\x02')
  return (
    data[:8] + b'\x63' + data[9 : begin + 10] + b'\x63' + data[begin + 11 :]
  )


@pytest.mark.parametrize(
  ('damage', 'message'),
  [
    (lambda data: {'data': data[:-9], 'length': len(data)},
     r'OSError: expected \d+ bytes, found \d+'),
    (lambda data: {'data': data[:-9]}, 'expected a zip, found none'),
    (lambda data: {'data': b'<html>Sign in</html>'},
     'expected a zip, found none'),
    (lambda data: {'data': with_other_method(data)},
     'expected a zip, found none .*compression'),
    (lambda data: {'data': data[:99] + bytes(40) + data[139:]},
     'expected a (whole )?zip, found'),
    (lambda data: {'data': b'', 'status': 404, 'length': 0}, 'HTTPError'),
  ],
)  # fmt: skip
def test_what_is_no_whole_archive_is_not_kept(
  rows, archive, serve, tfds_dir, damage, message
):
  serve(**damage(archive))
  with pytest.raises(errors.DataError, match=message):
    prepare()
  assert not list((tfds_dir / 'downloads').iterdir())
  # A new attempt has nothing in its way.
  serve(archive)
  assert prepare().info.splits['train'].num_examples == 24


def test_without_a_network_the_release_says_where_to_put_it(
  tfds_dir, monkeypatch
):
  def fail(url, timeout):
    assert url == release.URL
    raise ConnectionError('no route')

  monkeypatch.delenv('DSS_RELEASE_URL', raising=False)
  monkeypatch.setattr(release.urllib.request, 'urlopen', fail)
  with pytest.raises(
    errors.DataError,
    match=r'could not be fetched: ConnectionError: no route\. Fetch it by hand'
    r' and save it as .*downloads/dss_release\.zip, or give its path as DATA',
  ):
    prepare()


def test_a_folder_put_there_by_hand_is_read(
  rows, write_release, tfds_dir, no_network
):
  (tfds_dir / 'downloads').mkdir(parents=True)
  write_release().rename(tfds_dir / 'downloads/dss_release')
  builder = prepare()
  assert builder.builder_config.name == 'release_palm'
  assert builder.info.splits['train'].num_examples == 24


def test_a_release_that_lacks_rows_is_refused(
  write_release, tfds_dir, no_network
):
  (tfds_dir / 'downloads').mkdir(parents=True)
  write_release().rename(tfds_dir / 'downloads/dss_release')
  with pytest.raises(
    errors.DataError,
    match=r"published rows of cqa \({'train': 9741, 'test': 1221}\), found"
    r" {'train': 24, 'test': 6}\. Remove it and get the archive again",
  ):
    prepare()


def test_an_extraction_that_changed_is_prepared_again(
  serve, archive, rows, write_release, tfds_dir, tmp_path, monkeypatch
):
  serve(archive)
  monkeypatch.setenv('DSS_TEACHERS', str(tmp_path / 'teachers'))
  extraction = tmp_path / 'teachers/mine/cqa'
  shutil.copytree(write_release() / 'cqa', extraction)
  (extraction / 'llm').rename(extraction / 'mine')
  before = prepare(teacher='mine').info.metadata['reports']['train']

  file = extraction / 'mine/train_CoT_0.json'
  said = json.loads(file.read_text())
  file.write_text(json.dumps([''] * len(said)))
  tfds_builders._PREPARED.clear()
  after = prepare(teacher='mine').info.metadata['reports']['train']
  assert before != after
