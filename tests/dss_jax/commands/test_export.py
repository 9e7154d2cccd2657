"""What `dss export` refuses. What it writes is in tests/test_commands.py."""

import pathlib

import pytest

from dss_jax import cli
from tests import golden_data

_CHECKPOINT = pathlib.Path(golden_data.__file__).parent / 'golden/hf_1_1/model'
_GIN = '--gin_file=gin/dss_cqa.gin'


def _refused(capsys, *arguments):
  with pytest.raises(SystemExit) as stopped:
    cli.main(['export', *map(str, arguments)])
  assert stopped.value.code == 2
  return capsys.readouterr().err


def test_a_folder_without_a_checkpoint_is_refused(tmp_path, capsys):
  said = _refused(capsys, tmp_path, tmp_path / 'out', _GIN)
  assert str(tmp_path) in said and 'checkpoint' in said


def test_a_run_without_its_configuration_is_refused(tmp_path, capsys):
  said = _refused(capsys, _CHECKPOINT, tmp_path / 'out')
  assert 'expected config.gin there' in said and '--gin_file=FILE' in said


def test_a_folder_that_is_in_use_is_left_alone(tmp_path, capsys):
  (tmp_path / 'notes').write_text('mine')
  said = _refused(capsys, _CHECKPOINT, tmp_path, _GIN)
  assert f'{tmp_path}: not empty' in said
  assert [path.name for path in tmp_path.iterdir()] == ['notes']


def test_a_checkpoint_of_another_network_leaves_nothing_behind(
  tmp_path, capsys
):
  layers = tmp_path / 'layers.gin'
  layers.write_text(
    'from __gin__ import dynamic_registration\n'
    "include 'gin/dss_cqa.gin'\n"
    'from t5x.examples.t5 import network\n'
    'network.T5Config.num_decoder_layers = 5\n'
  )
  out = tmp_path / 'new' / 'out'
  said = _refused(capsys, _CHECKPOINT, out, f'--gin_file={layers}')
  assert 'do not fit the configuration' in said
  assert not list(out.parent.iterdir())


def test_a_vocabulary_that_is_no_sentencepiece_is_refused(tmp_path, capsys):
  letters = tmp_path / 'letters.gin'
  letters.write_text(
    'from __gin__ import dynamic_registration\n'
    "include 'gin/dss_cqa.gin'\n"
    'import seqio\n'
    'VOCABULARY = @seqio.ByteVocabulary()\n'
  )
  out = tmp_path / 'out'
  said = _refused(capsys, _CHECKPOINT, out, f'--gin_file={letters}')
  assert 'found ByteVocabulary' in said
  assert not out.exists()
