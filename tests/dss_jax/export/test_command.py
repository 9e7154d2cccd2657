"""What `dss export` refuses. What it writes is in tests/test_commands.py."""

import json
import os
import pathlib

import pytest
import tokenizers

from dss_jax import cli, mixtures
from dss_jax.export import command as export
from tests import golden_data, small_vocabularies

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
  # Before libraries are loaded, and a run is looked for.
  assert 'not empty' in _refused(capsys, tmp_path / 'no', tmp_path)
  assert [path.name for path in tmp_path.iterdir()] == ['notes']


def test_one_process_at_a_time_exports_into_a_folder(tmp_path, capsys):
  out = tmp_path / 'made' / 'student'
  with export._replacing_folder(str(out)) as place:
    (place / 'half').write_text('of one')
    said = _refused(capsys, _CHECKPOINT, out, _GIN)
    assert f'{out}: expected a folder that no other process' in said
    assert f'process {os.getpid()} on' in said and 'since 20' in said
    # A folder beside it is another one.
    with export._replacing_folder(f'{out}2'):
      pass
  assert [path.name for path in out.iterdir()] == ['half']
  assert {path.name for path in out.parent.iterdir()} == {'student', 'student2'}


def test_what_a_killed_export_left_goes_when_the_next_one_is_done(tmp_path):
  out = tmp_path / 'student'
  left = tmp_path / '.student.unfinished'
  left.mkdir()
  (left / 'config.json').write_text('half')
  with export._replacing_folder(str(out)) as place:
    assert not list(place.iterdir())
    (place / 'config.json').write_text('whole')
  assert (out / 'config.json').read_text() == 'whole'
  assert [path.name for path in tmp_path.iterdir()] == ['student']


def test_a_folder_that_is_no_local_one_is_refused(
  tmp_path, capsys, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  said = _refused(capsys, _CHECKPOINT, 'gs://bucket/student', _GIN)
  assert 'gs://bucket/student: expected a local folder' in said
  assert not list(tmp_path.iterdir())


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


@pytest.mark.parametrize(
  ('ids', 'expected'),
  [
    ({'pad_id': -1, 'unk_id': 0}, 'padding is not 0'),
    ({'eos_id': 3}, 'expected the end piece with id 1'),
  ],
)
def test_a_vocabulary_with_other_ids_is_refused(
  ids, expected, tmp_path, capsys
):
  vocabulary = small_vocabularies.made(vocab_size=400, **ids)
  other = tmp_path / 'other.gin'
  other.write_text(
    'from __gin__ import dynamic_registration\n'
    "include 'gin/dss_cqa.gin'\n"
    'import seqio\n'
    'VOCABULARY = @seqio.SentencePieceVocabulary()\n'
    'seqio.SentencePieceVocabulary.sentencepiece_model_file ='
    f" '{vocabulary.sentencepiece_model_file}'\n"
  )
  out = tmp_path / 'out'
  said = ' '.join(
    _refused(capsys, _CHECKPOINT, out, f'--gin_file={other}').split()
  )
  assert expected in said and vocabulary.sentencepiece_model_file in said
  assert not out.exists()


def test_the_tokenizer_is_told_how_the_data_set_was_tokenized(tmp_path):
  vocabulary = mixtures.sample_vocabulary()
  ids = {}
  for data_set in ('cqa', 'esnli', 'custom', None):
    folder = tmp_path / str(data_set)
    folder.mkdir()
    export._write_tokenizer(vocabulary, folder, data_set)
    there = json.loads((folder / 'tokenizer_config.json').read_text())
    assert there['split_special_tokens']
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / 'tokenizer.json'))
    tokenizer.encode_special_tokens = there['split_special_tokens']
    ids[data_set] = tokenizer.encode('A dog.</s>A <pad>').ids
  spelled_out = [*vocabulary.encode('A dog.</s>A <pad>'), 1]
  assert ids['cqa'] == ids[None] == spelled_out
  in_parts = [vocabulary.encode(part) for part in ('A dog.', 'A <pad>')]
  assert ids['esnli'] == ids['custom'] == [*in_parts[0], 1, *in_parts[1], 1]
