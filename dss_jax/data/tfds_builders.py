"""TFDS data sets of the released rows, prepared once and read by all hosts.

One builder per data set (`dss_cqa`, `dss_svamp`, …), and one config per pair of
data and teacher: `sample_palm`, `release_gpt_neox`, `local_<content>_palm` for
the user's own folder or zip, and `sample_gold`, … if no teacher is needed.
Each stores every released row; `pipeline.sources` draws from them on reading.
`dss_custom` holds the user's own rows (`own_rows`).
"""

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

import numpy as np
import seqio
import tensorflow_datasets as tfds
from absl import logging
from etils import epath

from dss_jax import errors, neutral, sample
from dss_jax.data import columns as columns_lib
from dss_jax.data import own_rows, progress, records, release

# Increased when the same files give different rows.
VERSION = '1.1.0'
COLUMNS = columns_lib.NAMES
# 'sample', 'release', a path, or the user's own rows.
Data = str | own_rows.OwnData


@dataclasses.dataclass
class Config(tfds.core.BuilderConfig):
  """The files that a builder reads.

  Attributes:
    data: 'sample', 'release', the path of a folder or zip, or the user's own
      rows.
    teacher: whose outputs to read with the rows; None for none.
  """

  data: Data = 'sample'
  teacher: str | None = 'palm'


def sample_location() -> str:
  """Returns the folder of the packaged sample."""
  return sample.DATA_DIR


def by_value(data_set: str, data: Data) -> bool:
  """Returns whether labels are equations, compared by their value."""
  if isinstance(data, own_rows.OwnData):
    return data.by_value
  return data_set in records.EQUATION_SETS


@functools.lru_cache(maxsize=64)
def _fingerprint(
  data_set: str, data: Data, teacher: str | None, state: tuple[Any, ...]
) -> str:
  del state  # Only a part of the cache's key.
  if isinstance(data, own_rows.OwnData):
    return own_rows.fingerprint(data)
  return records.fingerprint(data_set, data, teacher)


def content(data_set: str, data: Data, teacher: str | None) -> str:
  """Returns ten digits for the content of the files; see `records.fingerprint`.

  Args:
    data_set: such as 'cqa'.
    data: as in `Config`, but not 'release'.
    teacher: as in `Config`.

  Raises:
    DataError: there are no such files.
  """
  state: tuple[Any, ...]
  if isinstance(data, own_rows.OwnData):
    state = own_rows.state(data)
  else:
    data = sample_location() if data == 'sample' else data
    state = records.state(data_set, data, teacher)
  return _fingerprint(data_set, data, teacher, state)


def data_tag(data_set: str, data: Data, *teachers: str | None) -> str:
  """Returns the name of the data: sample, release or local_<content>.

  Args:
    data_set: such as 'cqa'.
    data: as in `Config`.
    *teachers: whose outputs are read with the rows, at least one, or None for
      nobody's.
  """
  if data in ('sample', 'release'):
    return str(data)
  found = [content(data_set, data, teacher) for teacher in teachers]
  if len(found) > 1:
    text = ' '.join(found)
    found = [hashlib.sha256(text.encode()).hexdigest()[: len(found[0])]]
  return f'local_{found[0]}'


class _Info(tfds.core.DatasetInfo):
  """Dataset info that is not looked up in TFDS' bucket."""

  def initialize_from_bucket(self) -> None:
    """Does nothing: the bucket does not have these data sets."""


# mypy takes the untyped base class for `object`.
class _Builder(  # type: ignore[call-arg]
  tfds.core.GeneratorBasedBuilder, skip_registration=True
):
  """Base class of the builders."""

  VERSION = tfds.core.Version(VERSION)
  DATA_SET = ''
  BUILDER_CONFIGS: list[Config] = []
  # Keeps TFDS from looking for checksums and descriptions beside this file.
  code_path = None
  # Where to say how far it is, while TFDS' own messages are hidden.
  told_to: IO[str] | None = None

  def _info(self) -> tfds.core.DatasetInfo:
    return _Info(
      builder=self,
      description='Rows with gold labels, and the rationales and labels of a'
      ' teacher, for distilling step-by-step.',
      features=tfds.features.FeaturesDict(
        {'index': np.int64}
        | {name: tfds.features.Text() for name in self._columns()}
      ),
      metadata=tfds.core.MetadataDict(),
      # Keeps the order of the release.
      disable_shuffling=True,
    )

  def _columns(self) -> list[str]:
    """Returns the names of the rows' columns."""
    data = self.builder_config.data
    count = len(data.kinds) if isinstance(data, own_rows.OwnData) else 1
    further = range(2, 1 + count)
    return [*COLUMNS, *map(columns_lib.rationale, further)]

  def _read(self) -> tuple[str, records.Release, str]:
    """Returns the path of the rows, the rows, and their fingerprint."""
    config = self.builder_config
    location = _location(config, self.data_dir_root)
    rows = records.read(self.DATA_SET, location, config.teacher)
    if config.data == 'release':
      release.check_rows(self.DATA_SET, location, rows)
    digits = records.fingerprint(self.DATA_SET, location, config.teacher)
    return location, rows, digits

  def _split_generators(self, dl_manager) -> Mapping[str, Iterator]:
    config = self.builder_config
    location, read, digits = self._read()
    if config.name.startswith('local_') and f'_{digits}_' not in config.name:
      raise errors.DataError(
        f'{location}: expected the files that {config.name} was named after,'
        f' found other content ({digits}). Name the data again: start anew.'
      )
    self.info.metadata.update(
      content=digits,
      reports={
        split: dataclasses.asdict(report)
        for split, report in read.reports.items()
      },
    )
    return {
      split: self._rows(split, rows) for split, rows in read.splits.items()
    }

  def _rows(
    self, split: str, rows: tuple[records.Record, ...]
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (key, features) of the rows of a split."""
    report = progress.Progress(f'Writing {split}', len(rows), self.told_to)
    for row in rows:
      report.at(row.index)
      report.row()
      yield row.index, {'index': row.index, **row.columns()}
    report.done()

  def _generate_examples(self, rows) -> Iterator:
    yield from rows


def _configs(*teachers: str) -> list[Config]:
  return [
    Config(name=config_name(data, teacher), data=data, teacher=teacher)
    for data in ('sample', 'release')
    for teacher in (*teachers, None)
  ]


def config_name(tag: str, teacher: str | None) -> str:
  """Returns a config's name: `sample_palm`, or `sample_gold` for no teacher.

  Args:
    tag: from `data_tag`.
    teacher: as in `Config`.
  """
  return f'{tag}_{"gold" if teacher is None else teacher}'


class DssCqa(_Builder):
  """CommonsenseQA-style rows: question and choices, and the right choice."""

  DATA_SET = 'cqa'
  BUILDER_CONFIGS = _configs('palm', 'gpt_neox')


class DssSvamp(_Builder):
  """Arithmetic word problems, and the equations that answer them."""

  DATA_SET = 'svamp'
  BUILDER_CONFIGS = _configs('palm', 'gpt_neox')


class DssAsdiv(_Builder):
  """SVAMP's rows, with those of ASDiv added to the train split."""

  DATA_SET = 'asdiv'
  BUILDER_CONFIGS = _configs('palm')


class DssEsnli(_Builder):
  """Premise and hypothesis; entailment, neutral or contradiction."""

  DATA_SET = 'esnli'
  BUILDER_CONFIGS = _configs('palm', 'gpt_neox')


class DssAnli1(_Builder):
  """ANLI's first round: as e-SNLI, with premises of several sentences."""

  DATA_SET = 'anli1'
  BUILDER_CONFIGS = _configs('palm', 'gpt_neox')


class DssCustom(_Builder):
  """The user's own rows; one config for each content of their files."""

  DATA_SET = 'custom'

  def _read(self) -> tuple[str, records.Release, str]:
    own = self.builder_config.data
    rows = own_rows.read(own, stream=self.told_to)
    return own.train, rows, own_rows.fingerprint(own)


BUILDERS = {
  cls.DATA_SET: cls
  for cls in (DssCqa, DssSvamp, DssAsdiv, DssEsnli, DssAnli1, DssCustom)
}
DATA_SETS = tuple(BUILDERS)


def data_dir() -> str | None:
  """Returns the TFDS data dir: `--tfds_data_dir`, or None for TFDS' default."""
  return seqio.LazyTfdsLoader(f'dss_cqa:{VERSION}').data_dir


def find_config(data_set: str, data: Data, teacher: str | None) -> Config:
  """Returns the builder's config for a pair of data and teacher.

  Args:
    data_set: one of `DATA_SETS`.
    data: as in `Config`.
    teacher: as in `Config`.

  Raises:
    DataError: `data` is a path that does not hold the data set.
  """
  name = config_name(data_tag(data_set, data, teacher), teacher)
  known = {config.name: config for config in BUILDERS[data_set].BUILDER_CONFIGS}
  return known.get(name) or Config(name=name, data=data, teacher=teacher)


@contextlib.contextmanager
def _only_errors() -> Iterator[None]:
  """Hides TFDS' warnings about configs that it does not know."""
  before = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)
  try:
    yield
  finally:
    logging.set_verbosity(before)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
  """Hides TFDS' messages and bars: one long line per shard."""
  out = io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
    yield


def _say(config: Config, text: str) -> None:
  """Prints a line, except about the sample, which is prepared in no time."""
  if config.data != 'sample':
    neutral.say(text, err=True)


def _is_prepared(builder: tfds.core.DatasetBuilder) -> bool:
  return builder.data_path.exists() and builder.is_prepared()


def _location(config: Config, root: epath.Path) -> str:
  """Returns the path of the files, fetching the release if necessary."""
  if config.data == 'release':
    return str(release.fetch(root))
  return sample_location() if config.data == 'sample' else str(config.data)


def _stale(builder: tfds.core.DatasetBuilder) -> bool:
  """Returns whether the files changed since they were prepared.

  Names of local data contain their fingerprint, and the published release never
  changes; the packaged sample and an extraction may.
  """
  config = builder.builder_config
  extracted = config.teacher not in (None, 'palm', 'gpt_neox')
  if config.data != 'sample' and not (config.data == 'release' and extracted):
    return False
  location = _location(config, builder.data_dir_root)
  digits = content(builder.DATA_SET, location, config.teacher)
  return builder.info.metadata.get('content') != digits


@contextlib.contextmanager
def _alone(builder: tfds.core.DatasetBuilder) -> Iterator[None]:
  """Waits until no other process prepares a data set, and keeps others out.

  What a process that was killed left half-made is removed. Where folders have
  no locks, as on remote storage, nothing is removed and nobody waits.
  """
  folder = builder.data_path.parent
  folder.mkdir(parents=True, exist_ok=True)
  try:
    # The system lets go of it when this process ends, however it does.
    descriptor = os.open(folder, os.O_RDONLY)
  except OSError:
    yield
    return
  try:
    if _locked(descriptor, builder):
      # Names that TFDS gives to what is not complete.
      for path in folder.glob(f'incomplete.*_{builder.data_path.name}'):
        path.rmtree()
    yield
  finally:
    os.close(descriptor)


def _locked(descriptor: int, builder: tfds.core.DatasetBuilder) -> bool:
  """Locks an open folder for this process; whether that is possible there."""
  try:
    try:
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      _say(
        builder.builder_config,
        f'Another process prepares {builder.name}; waiting for it …',
      )
      fcntl.flock(descriptor, fcntl.LOCK_EX)
  except OSError:
    return False
  return True


def _prepare(
  make: Callable[[], tfds.core.DatasetBuilder],
  builder: tfds.core.DatasetBuilder,
  overwrite: bool,
) -> tfds.core.DatasetBuilder:
  """Writes the data set; TFDS renames the finished folder to its name."""
  modes = tfds.download.GenerateMode
  mode = (
    modes.REUSE_CACHE_IF_EXISTS if overwrite else modes.REUSE_DATASET_IF_EXISTS
  )
  download_config = tfds.download.DownloadConfig(
    try_download_gcs=False, download_mode=mode
  )
  config = builder.builder_config
  try:
    if config.data == 'release':
      release.fetch(builder.data_dir_root)
    with _alone(builder):
      # Another process may have done so meanwhile.
      other = make()
      if _is_prepared(other) and not _stale(other):
        return other
      _say(config, f'Preparing {builder.name}/{config.name}, once …')
      builder.told_to = sys.stderr
      with _silent():
        builder.download_and_prepare(download_config=download_config)
    rows = (f'{k} {v.num_examples}' for k, v in builder.info.splits.items())
    _say(config, f'Prepared {", ".join(rows)} rows in {builder.data_path}')
    return builder
  except errors.DataError:
    raise
  except Exception:
    # Another host or run may have renamed its folder first.
    other = make()
    if not _is_prepared(other) or _stale(other):
      raise
    return other


_PREPARED: dict[tuple[str, str, str | None], tfds.core.DatasetBuilder] = {}


def prepared(data_set: str, config: Config) -> tfds.core.DatasetBuilder:
  """Returns a builder whose rows are in the TFDS data dir, preparing them once.

  Only fetching the release uses the network, once.

  Args:
    data_set: one of `DATA_SETS`.
    config: from `find_config`.

  Raises:
    DataError: the files are missing or malformed.
  """
  directory = data_dir()
  key = (data_set, config.name, directory)
  if key in _PREPARED:
    return _PREPARED[key]

  def make():
    return BUILDERS[data_set](config=config, data_dir=directory)

  with _only_errors():
    builder = make()
    done = _is_prepared(builder)
    if not done or _stale(builder):
      builder = _prepare(make, builder, overwrite=done)
  _PREPARED[key] = builder
  return builder


def reports(builder: tfds.core.DatasetBuilder) -> dict[str, records.Report]:
  """Returns the reports on the files as they were prepared, by split."""
  # JSON knows no tuples; what an older version prepared has no further kinds.
  return {
    split: records.Report(
      **{**report, 'empty_more': tuple(report.get('empty_more', ()))}
    )
    for split, report in builder.info.metadata['reports'].items()
  }


@functools.lru_cache(maxsize=8)
def table(
  builder: tfds.core.DatasetBuilder, split: str
) -> dict[str, np.ndarray]:
  """Returns all rows of a released split as columns, in the release's order.

  Args:
    builder: from `prepared`.
    split: 'train', 'validation' or 'test', one that was released.

  Returns:
    Arrays of bytes (UTF-8) by the names in `COLUMNS`, and of further kinds of
    rationales. They are shared, so they must not be written to.
  """
  columns = tfds.as_numpy(
    builder.as_dataset(split=split, batch_size=-1, shuffle_files=False)
  )
  order = np.argsort(columns['index'])
  names = (*COLUMNS, *columns_lib.rationales(columns)[1:])
  return {name: columns[name][order] for name in names}
