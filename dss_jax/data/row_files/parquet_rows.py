"""Rows in Parquet, of which only the needed columns are read.

Thirteen kilobytes can stand for forty gigabytes: a text that is stored once for
a million rows. So texts stay encoded by a dictionary until they are handed out,
each of them once, and what is handed out is counted. What a file says about its
pages is compared with what they say themselves, before one is unpacked.
"""

import collections
import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from dss_jax import errors
from dss_jax.data.row_files import finding, opening, parquet_pages

# How many rows are decoded at once.
_BATCH = 4096
# What a row or an item of a list takes at least, however it is stored.
_ITEM_BYTES = 8
# The most that the needed columns of a row group may unpack to, beyond the
# proportion that `opening` allows.
_GROUP = 2**26


class Reader:
  """Reader of one file, which knows its columns before its rows.

  Attributes:
    header: the columns' names.
  """

  def __init__(self, file: finding.File, stream, meter: opening.Meter):
    """Reads the metadata at the file's end.

    Args:
      file: the file.
      stream: its bytes.
      meter: counts what is read.

    Raises:
      DataError: it is not Parquet, or a column is there twice.
    """
    # Imported here, since few need it. It comes with TFDS.
    from pyarrow import parquet

    self._place = file.place
    self._stream = stream
    self._meter = meter
    with self._faults():
      self._schema = parquet.read_schema(stream)
      self._metadata = parquet.read_metadata(stream)
    self.header = tuple(self._schema.names)
    for name, times in collections.Counter(self.header).items():
      if times > 1:
        raise errors.DataError(
          f'{self._place}: expected each column once, found {name!r:.60}'
          f' {times} times. Remove all but one, or give them'
          ' other names.'
        )

  @contextlib.contextmanager
  def _faults(self) -> Iterator[None]:
    """Turns Arrow's errors into a DataError."""
    import pyarrow

    try:
      yield
    except (pyarrow.ArrowException, OSError, MemoryError, ValueError) as error:
      raise errors.DataError(
        f'{self._place}: expected a Parquet file, found: {error!s:.120}. Write'
        ' it again, or give JSON lines.'
      ) from error

  def rows(
    self, wanted: Sequence[str] | None
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (number, row), with the wanted columns only.

    Args:
      wanted: their names; those that are not there are left out. None takes
        all whose type is known.

    Raises:
      DataError: a column holds neither texts nor numbers, or unpacks to too
        much.
    """
    from pyarrow import parquet

    if wanted is None:
      wanted = [name for name in self.header if self._is_known(name)]
    names = [name for name in wanted if name in self.header]
    for name in names:
      self._check_type(name)
    with self._faults():
      paths = self._paths()
    leaves = [
      path
      for path in paths
      if any(path == name or path.startswith(f'{name}.') for name in names)
    ]
    self._check_size(paths, leaves)
    with self._faults():
      table = parquet.ParquetFile(
        self._stream, read_dictionary=leaves, pre_buffer=False
      )
      batches = table.iter_batches(_BATCH, columns=leaves)
    number = 0
    while True:
      with self._faults():
        batch = next(batches, None)
      if batch is None:
        return
      with self._faults():
        # A text that is no UTF-8 is found here.
        columns = [self._values(batch.column(name), name) for name in names]
      self._meter.read(self._stream.tell())
      found: Iterable[tuple[Any, ...]] = [()] * batch.num_rows
      if names:
        found = zip(*columns, strict=True)
      for values in found:
        number += 1
        size = sum(map(_size, values))
        if size > opening.MAX_ROW:
          raise opening.too_long(self._place, number, 'row')
        self._meter.unpacked(_ITEM_BYTES + size)
        yield number, dict(zip(names, values, strict=True))

  def _check_type(self, name: str) -> None:
    if not self._is_known(name):
      raise errors.DataError(
        f'{self._place}, row 1: expected {name!r} to be a text, found'
        f' {self._schema.field(name).type}. Correct it.'
      )

  def _is_known(self, name: str) -> bool:
    """Whether a column holds texts, numbers, truth values or lists of them."""
    from pyarrow import types

    kind = self._schema.field(name).type
    inner = kind
    while types.is_list(inner) or types.is_large_list(inner):
      inner = inner.value_type
    if types.is_dictionary(inner):
      inner = inner.value_type
    return any(
      is_one(inner)
      for is_one in (
        types.is_string, types.is_large_string, types.is_string_view,
        types.is_integer, types.is_floating, types.is_boolean,
        types.is_decimal, types.is_null,
      )
    )  # fmt: skip

  def _paths(self) -> list[str]:
    """Returns the paths of the stored columns, in their order."""
    schema = self._metadata.schema
    return [schema.column(i).path for i in range(len(schema))]

  def _check_size(self, paths: Sequence[str], leaves: Sequence[str]) -> None:
    """Raises a DataError if a row group would take too much memory.

    Args:
      paths: of all stored columns. A chunk is known by its place among them,
        as Arrow reads it: the path that it has of its own may be another.
      leaves: those that are to be read.
    """
    limit = max(_GROUP, opening.MAX_EXPANSION * self._meter.size)
    with self._faults():
      groups = parquet_pages.chunks(self._stream)
    for chunks in groups:
      if len(chunks) != len(paths):
        raise errors.DataError(
          f'{self._place}: expected {len(paths)} columns in each row group,'
          f' found {len(chunks)} in one. Write the file again.'
        )
      size = 0
      for path, chunk in zip(paths, chunks, strict=True):
        if path in leaves:
          size += self._chunk_size(chunk, limit)
      if size > limit:
        raise errors.DataError(
          f'{self._place}: expected at most {limit} bytes of'
          f' {", ".join(leaves)} in a row group of a file of'
          f' {self._meter.size} bytes, found {size}. If you'
          ' trust it, write it without compression.'
        )

  def _chunk_size(self, chunk: parquet_pages.Chunk, limit: int) -> int:
    """Returns the memory that a column chunk takes, or more than a limit."""
    size = max(chunk.unpacked, _ITEM_BYTES * chunk.values)
    if not chunk.values:
      return size  # There may be no page.
    pages = 0
    with self._faults():
      for unpacked in parquet_pages.unpacked_sizes(
        self._stream, chunk.begin, chunk.packed
      ):
        pages += unpacked
        if pages > limit:
          break
    return max(size, pages)

  def _values(self, column: Any, name: str) -> list[Any]:
    """Returns the Python values of a column; equal texts are one object."""
    from pyarrow import types

    kind = column.type
    if types.is_dictionary(kind):
      known = [*column.dictionary.to_pylist(), None]
      indices = column.indices.to_pylist()
      return [known[-1 if i is None else i] for i in indices]
    if types.is_list(kind) or types.is_large_list(kind):
      items = self._values(column.values, name)
      offsets = column.offsets.to_pylist()
      valid = column.is_valid().to_pylist()
      return [
        items[begin:end] if there else None
        for begin, end, there in zip(
          offsets[:-1], offsets[1:], valid, strict=True
        )
      ]
    if types.is_float16(kind) or types.is_float32(kind):
      # The shortest digits that are this number, not those of a longer one.
      return [None if v is None else float(str(v)) for v in _short(column)]
    return column.to_pylist()


def _short(column: Any) -> Iterator[Any]:
  valid = column.is_valid().to_pylist()
  values = column.to_numpy(zero_copy_only=False)
  return (v if there else None for v, there in zip(values, valid, strict=True))


def _size(value: Any) -> int:
  """Returns what a value adds to the texts that are handed out."""
  if isinstance(value, str):
    return len(value)
  if isinstance(value, list):
    return sum(map(_size, value)) + _ITEM_BYTES * len(value)
  return 0
