"""The command `dss export`: a finished student for Hugging Face transformers.

  dss export runs/dss_cqa student/

The folder holds weights, tokenizer, configuration and a model card.
`from_pretrained` of transformers reads it, and so do the tools that serve or
convert such models.
"""

import contextlib
import json
import math
import os
import pathlib
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from etils import epath

from dss_jax import command_lines, neutral
from dss_jax.data import progress
from dss_jax.errors import DataError
from dss_jax.export import card, hf_tokenizer, measured
from t5x.cli import quiet_tensorflow, stages

if TYPE_CHECKING:
  from seqio import SentencePieceVocabulary

  from t5x.models import BaseTransformerModel

# T5's, as in `formats.huggingface`. Decoding starts with padding.
_PAD_ID, _EOS_ID = 0, 1
_TOKENIZER_CONFIG = {
  # The class that takes tokenizer.json as it is.
  'tokenizer_class': 'PreTrainedTokenizerFast',
  'pad_token': '<pad>',
  'eos_token': '</s>',
  'unk_token': '<unk>',
  # A literal <pad> in a text is text, as in training; see `hf_tokenizer`.
  'split_special_tokens': True,
  'model_input_names': ['input_ids', 'attention_mask'],
  'clean_up_tokenization_spaces': False,
}
_GENERATION_CONFIG = {
  'pad_token_id': _PAD_ID,
  'eos_token_id': _EOS_ID,
  'decoder_start_token_id': _PAD_ID,
  'do_sample': False,
}

# Macros that a card tells of.
_TOLD = (
  *('DATA_SET', 'DATA', 'LABELS', 'TEACHER', 'FRACTION'),
  'INITIAL_CHECKPOINT_PATH',
)


@click.command()
@click.argument('run')
@click.argument('folder', type=click.Path(file_okay=False))
@click.option(
  '--step',
  type=click.IntRange(0),
  help='Which checkpoint of the run.  [default: the last]',
)
@click.option(
  '--adapters-only',
  is_flag=True,
  help='Write the adapters of a run with gin/engine/lora.gin alone, for peft;'
  ' by default they are merged into the weights.',
)
@click.option(
  '--base-model',
  metavar='MODEL',
  help='With --adapters-only, what they are for: a model that transformers'
  ' finds by this name, or its folder.  [default: what the run started from]',
)
@click.option(
  '--base',
  metavar='CHECKPOINT',
  help="Where the checkpoint is that the run's adapters were trained on, if it"
  ' has been moved.',
)
@click.option(
  '--gin_file',
  'gin_files',
  multiple=True,
  help='A gin file of the run; repeatable, later ones win.'
  '  [default: config.gin in its folder]',
)
@click.option(
  '--allow',
  multiple=True,
  metavar='MODULE',
  help='A module of your own whose model the run has, such as'
  ' my_project.models; repeatable. Its code is run.',
)
def export(
  run: str,
  folder: str,
  step: int | None,
  adapters_only: bool,
  base_model: str | None,
  base: str | None,
  gin_files: Sequence[str],
  allow: Sequence[str],
) -> None:
  """Writes a run's student as a folder that transformers loads.

  RUN is the folder of a run or one of its checkpoints, local or gs://; FOLDER
  is created. Neither data nor an accelerator is needed. Of RUN's config.gin
  only the model is read, and no code in it is run; a --gin_file is run.

  \b
  Example:
    dss export runs/dss_cqa student
  """  # noqa: D301
  neutral.say(f'Exporting {run} to {folder}', err=True)
  _check_is_new(pathlib.Path(folder), folder)
  stages.begin('loading libraries', alone=True)
  quiet_tensorflow.load()
  from dss_jax import config_filter, run_config
  from dss_jax.student import exported
  from t5x import checkpoints

  stages.end()
  if base_model is not None and not adapters_only:
    raise DataError(
      f'--base-model {base_model}: names the model that adapters are for, so it'
      ' goes with --adapters-only. Add that, or leave this out.'
    )
  checkpoint = checkpoints.find_checkpoint(run, step)
  own = ''
  if not gin_files:
    path = run_config.path_in(run, checkpoint)
    if path is None:
      raise _no_config(run)
    own = config_filter.model_only(
      path.read_text(), os.fspath(path), allow, decoding='if known'
    )
  with run_config.configured(gin_files, [], own, ['model']) as bound:
    model = run_config.resolve(bound, 'model')
    lengths = run_config.macro_or('TASK_FEATURE_LENGTHS', None) or {}
    told = {name: run_config.macro_or(name, None) for name in _TOLD}
    described = exported.describe(model, run, checkpoint)
  data_set = told['DATA_SET']
  vocabulary = _vocabulary(model)
  config = getattr(getattr(model, 'module', None), 'config', None)
  if not hasattr(config, 'num_encoder_layers'):
    raise DataError(
      'The configuration: expected a model whose network is'
      ' t5x.examples.t5.network.Transformer, which transformers knows as T5;'
      f' found {type(getattr(model, "module", model)).__name__}. Other networks'
      ' cannot be exported.'
    )
  params = checkpoints.open_checkpoint(checkpoint, base)['target']
  if adapters_only:
    base_model = base_model or _base_model(told['INITIAL_CHECKPOINT_PATH'])
  with _replacing_folder(folder) as place:
    _write_weights(folder, place, params, config, base_model)
    _write_tokenizer(vocabulary, place, data_set)
    if not adapters_only:
      # The default of transformers for the length cuts rationales short.
      generation = {'max_new_tokens': lengths.get('targets') or 256}
      _write_json(
        place / 'generation_config.json', _GENERATION_CONFIG | generation
      )
      _write_json(place / exported.FILE, described)
    _write_card(folder, place, checkpoint, told, model, params, base_model)
  upload = command_lines.typed(card.upload(folder), '  ', one_line=True)
  neutral.say(
    f'{checkpoint} is now in {folder}, for'
    f' {"peft" if adapters_only else "transformers"} to load.\n'
    f'{os.path.join(folder, "README.md")} says how to ask it and how good it'
    ' was.\nTo upload it, for yourself alone until you say otherwise:\n'
    f'{upload}'
  )


def _base_model(path: object) -> str:
  """Returns what transformers calls the model that a run started from.

  Args:
    path: INITIAL_CHECKPOINT_PATH.

  Raises:
    DataError: that is not known.
  """
  from t5x.checkpoints.formats import huggingface, peft

  known = card.base_model(path)
  if known is not None:
    return known
  if path is not None and peft.is_folder(str(path)):
    return peft.base_model(str(path))
  if path is not None and huggingface.is_huggingface_folder(str(path)):
    return str(path)
  raise DataError(
    '--adapters-only: transformers needs the model that the adapters are for.'
    f' The run started from {path}, whose name there is not known. Give it:'
    ' --base-model google/t5-v1_1-xl, or a folder.'
  )


def _write_weights(
  folder: str,
  place: pathlib.Path,
  params: Mapping[str, Any],
  config: Any,
  base_model: str | None,
) -> None:
  """Writes all weights, or adapters alone, if they are for `base_model`."""
  from t5x.checkpoints.formats import huggingface

  if base_model is not None:
    huggingface.write_adapters(params, config, str(place), base_model)
    return
  report = progress.Progress(f'Writing {folder}', unit='weights')
  huggingface.write(params, config, str(place), report.part)
  report.done()


def _check_is_new(path: pathlib.Path, folder: str) -> None:
  if path.is_dir() and any(path.iterdir()):
    raise DataError(f'{folder}: not empty. Give the name of a new folder.')


@contextlib.contextmanager
def _replacing_folder(folder: str) -> Iterator[pathlib.Path]:
  """Yields a folder to write, which gets the name of another in the end.

  One process at a time does; what a killed one left is removed.

  Raises:
    DataError: the other is not empty, or is none of this machine.
    UserError: another process writes it.
  """
  from t5x import files

  if files.is_remote(folder):
    raise DataError(
      f'{folder}: expected a local folder. Export to one, and copy it.'
    )
  with files.naming_path_in_errors(folder, name='FOLDER'):
    final = pathlib.Path(os.path.abspath(folder))
    final.parent.mkdir(parents=True, exist_ok=True)
    record = f'.{final.name}.{files.folder_lock.FILE}'
    with files.folder_lock.writing(str(final.parent), record, folder):
      _check_is_new(final, folder)
      unfinished = final.with_name(f'.{final.name}.unfinished')
      shutil.rmtree(unfinished, ignore_errors=True)
      unfinished.mkdir()
      try:
        yield unfinished
        unfinished.replace(final)
      except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _no_config(run: str) -> DataError:
  return DataError(
    f'{run}: expected config.gin there, which a run writes beside its'
    ' checkpoints; found none. Give the gin files that it was started with, as'
    ' --gin_file=FILE.'
  )


def _vocabulary(model: 'BaseTransformerModel') -> 'SentencePieceVocabulary':
  """Returns the vocabulary of a model, if transformers supports it.

  Raises:
    DataError: transformers does not.
  """
  import seqio

  from t5x import data

  vocabulary = model.output_vocabulary
  if not isinstance(vocabulary, seqio.SentencePieceVocabulary):
    raise DataError(
      'Expected a model with a SentencePieceVocabulary, which is what a T5 of'
      f' transformers reads; found {type(vocabulary).__name__}. A student with'
      ' another vocabulary cannot be exported.'
    )
  place = vocabulary.sentencepiece_model_file
  data.check_vocabulary(vocabulary, model, place)
  if vocabulary.eos_id != _EOS_ID:
    raise DataError(
      f'{place}: expected the end piece with id {_EOS_ID}, which a T5 of'
      f' transformers has; found {vocabulary.eos_id}. A student with another'
      ' cannot be exported.'
    )
  return vocabulary


def _write_tokenizer(
  vocabulary: 'SentencePieceVocabulary',
  folder: pathlib.Path,
  data_set: str | None,
) -> None:
  """Writes the vocabulary for transformers, and its SentencePiece model."""
  import tensorflow as tf

  from dss_jax.pipeline import preprocessors, registration

  tf.io.gfile.copy(
    vocabulary.sentencepiece_model_file, folder / 'spiece.model', overwrite=True
  )
  # How the student's inputs were tokenized.
  tokenize = registration.tokenizer(data_set) if data_set else None
  described = hf_tokenizer.describe(
    vocabulary.sp_model, in_parts=tokenize is preprocessors.tokenize_parts
  )
  _write_json(folder / 'tokenizer.json', described)
  _write_json(folder / 'tokenizer_config.json', _TOKENIZER_CONFIG)


def _write_json(path: pathlib.Path, content: Mapping[str, Any]) -> None:
  text = json.dumps(content, indent=2, ensure_ascii=False)
  path.write_text(text + '\n', encoding='utf-8')


def _write_card(
  folder: str,
  place: pathlib.Path,
  checkpoint: str,
  macros: Mapping[str, Any],
  model: 'BaseTransformerModel',
  params: Mapping[str, Any],
  base_model: str | None,
) -> None:
  """Writes the model card, for readers who have only the folder.

  `base_model` is what adapters are for; None where they are merged.
  """
  import flax
  import numpy as np

  import dss_jax
  from dss_jax import models
  from dss_jax.pipeline import kinds as kinds_lib
  from t5x.checkpoints.formats import huggingface

  path = epath.Path(checkpoint.rstrip('/'))
  found = re.fullmatch(r'checkpoint_(\d+)', path.name)
  step = int(found[1]) if found else None
  known = measured.Measured()
  if step is not None:
    known = measured.read(path.parent, step)
  leaves = flax.traverse_util.flatten_dict(params, sep='/')
  # Merged, adapters are no parameters of their own.
  told_of = [
    leaf
    for name, leaf in leaves.items()
    if huggingface.is_adapter(name) is (base_model is not None)
  ]
  facts = card.Facts(
    folder=folder,
    step=step,
    parameters=sum(math.prod(leaf.shape) for leaf in told_of),
    tied=model.module.config.logits_via_embedding,
    version=dss_jax.__version__,
    macros=macros,
    measured=known,
    method=model.method if isinstance(model, models.DistillModel) else None,
    adapts=base_model,
    base_type=np.dtype(model.module.config.param_dtype).name,
    kinds=getattr(model, 'kinds', kinds_lib.ONE),
  )
  (place / 'README.md').write_text(card.text(facts), encoding='utf-8')
