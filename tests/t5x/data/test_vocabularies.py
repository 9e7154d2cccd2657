"""Vocabularies that the engine would misread are refused."""

import dataclasses
import types

import pytest
import seqio
import tensorflow as tf

from t5x import errors
from t5x.data import config as config_lib
from t5x.data import vocabularies
from tests import small_vocabularies

BAD = {
  'spm_train as it stands': (
    {'pad_id': -1, 'unk_id': 0, 'bos_id': 1, 'eos_id': 2},
    r'found padding -1, end 2, unknown 0 \(padding is not 0\)',
  ),
  'padding last': (
    {'pad_id': 3, 'unk_id': 0, 'bos_id': 1, 'eos_id': 2},
    r'found padding 3, end 2, unknown 0 \(padding is not 0\)',
  ),
  'no end': (
    {'eos_id': -1, 'bos_id': 1},
    r'found padding 0, end -1, unknown 2 \(there is no end piece\)',
  ),
}


@pytest.mark.parametrize('name', BAD)
def test_the_message_has_the_ids_and_the_options_that_mend_them(name):
  options, found = BAD[name]
  vocabulary = small_vocabularies.made(**options)
  mend = rf'{vocabulary.sentencepiece_model_file} again with spm_train'
  with pytest.raises(
    errors.UserError,
    match=f'Ours: expected padding with id 0.*{found}.*{mend} --pad_id=0'
    ' --eos_id=1 --unk_id=2',
  ):
    vocabularies.check_vocabulary(vocabulary, None, 'Ours')


def test_texts_without_an_end_need_none():
  vocabulary = small_vocabularies.made(eos_id=-1, bos_id=1)
  vocabularies.check_vocabulary(vocabulary, None, 'Ours', needs_end=False)
  passed = seqio.PassThroughVocabulary(size=9)
  vocabularies.check_vocabulary(passed, None, 'Ours', needs_end=False)
  with pytest.raises(errors.UserError, match='end None'):
    vocabularies.check_vocabulary(passed, None, 'Ours')


class _NoEnds(seqio.ByteVocabulary):
  eos_id = unk_id = -1


def test_pieces_that_are_not_there_are_not_the_same():
  vocabularies.check_vocabulary(_NoEnds(), None, 'Ours', needs_end=False)


class _OneId(seqio.ByteVocabulary):
  @property
  def unk_id(self):
    return 1


def test_one_id_for_two_pieces_is_refused():
  with pytest.raises(errors.UserError, match='one id stands for two of them'):
    vocabularies.check_vocabulary(_OneId(), None, 'Ours')


class _UnknownIsPadding(seqio.ByteVocabulary):
  unk_id = 0


class _JustBeyond(seqio.ByteVocabulary):
  @property
  def eos_id(self):
    return self.vocab_size

  unk_id = eos_id


def test_an_id_counts_if_it_is_one_of_the_vocabulary():
  with pytest.raises(errors.UserError, match='one id stands for two of them'):
    vocabularies.check_vocabulary(_UnknownIsPadding(), None, 'Ours')
  vocabularies.check_vocabulary(_JustBeyond(), None, 'Ours', needs_end=False)
  with pytest.raises(errors.UserError, match=r'\(there is no end piece\)'):
    vocabularies.check_vocabulary(_JustBeyond(), None, 'Ours')


@pytest.mark.parametrize(
  'vocabulary',
  [
    seqio.ByteVocabulary(),
    seqio.FullCodepointVocabulary(),
    small_vocabularies.made(),
    small_vocabularies.made(bos_id=3),
  ],
)
def test_usual_vocabularies_are_taken(vocabulary):
  vocabularies.check_vocabulary(vocabulary, None, 'Ours')


@dataclasses.dataclass
class _Model:
  input_vocabulary: seqio.Vocabulary
  output_vocabulary: seqio.Vocabulary
  module: types.SimpleNamespace | None = None


@pytest.mark.parametrize('add_eos', [True, False])
def test_the_vocabulary_of_a_task_is_checked(add_eos):
  vocabulary = small_vocabularies.made(eos_id=-1, bos_id=1)
  feature = seqio.Feature(vocabulary, add_eos=add_eos)
  task = seqio.Task(
    'task_of_test_vocabularies',
    source=seqio.FunctionDataSource(
      lambda split, shuffle_files, seed=None: tf.data.Dataset.range(1),
      splits=['train'],
    ),
    output_features={'inputs': feature, 'targets': feature},
    preprocessors=[],
  )
  cfg = config_lib.DatasetConfig(
    mixture_or_task_name=task,
    task_feature_lengths={'inputs': 8, 'targets': 8},
    split='train',
    batch_size=4,
    shuffle=False,
    seed=1,
  )
  model = _Model(vocabulary, vocabulary)
  if not add_eos:
    config_lib.verify_matching_vocabs(cfg, model)
    return
  with pytest.raises(
    errors.UserError, match=r'The input vocabulary of .*no end'
  ):
    config_lib.verify_matching_vocabs(cfg, model)


@pytest.mark.parametrize('content', [None, b'', b'no model'])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
  path = tmp_path / 'spiece.model'
  if content is not None:
    path.write_bytes(content)
  broken = seqio.SentencePieceVocabulary(str(path))
  with pytest.raises(errors.UserError, match='Ours: expected a file of'):
    vocabularies.check_vocabulary(broken, None, 'Ours')
