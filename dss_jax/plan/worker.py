"""The process that holds TPU's compiler: `python -m dss_jax.plan.worker`.

It alone loads libtpu, with JAX itself on the CPU, so that no other process has
to. Requests come as lines of JSON on standard input, answers go as lines of
JSON to standard output; whatever libraries print goes to standard error.

Most of a compilation is code generation, which no plan needs. Before that, XLA
writes the program with its schedule and memory to a folder. As soon as it is
there it is read, and the process ends together with the compiler. Only what the
compiler itself expects of a step (`cycles.py`) comes with the code.
"""

import os
import sys

if __name__ == '__main__':
  # First, since libraries look for their settings while they are imported.
  os.environ.update(
    JAX_PLATFORMS='cpu',
    TPU_SKIP_MDS_QUERY='1',
    ALLOW_MULTIPLE_LIBTPU_LOAD='1',
    TPU_MIN_LOG_LEVEL='3',
  )
  from t5x.cli import quiet_tensorflow

  quiet_tensorflow.load()

import dataclasses
import hashlib
import json
import math
import pathlib
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, Any

import jax

from dss_jax import mixtures, run_config
from dss_jax.commands import inspection
from dss_jax.errors import DataError
from dss_jax.pipeline import row_shapes
from dss_jax.plan import costs, counting, cycles, hardware, hlo, program

# To be changed along with what is read from a compiled program, and from one
# with its code.
_FORMAT = 'kernels'
_EXACT_FORMAT = 'kernels, cycles'
_UNITS = {'': 1, 'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}


def _row_shapes(lengths: Mapping[str, int]) -> list[tuple[int, int, float]]:
  """Returns L, T and examples a row: the run's shape, then others.

  Others suit the data, and cut no example.

  Args:
    lengths: the run's.

  Raises:
    DataError: the run doesn't pack, or its data have no example.
  """
  experiment = run_config.macro('EXPERIMENT')
  if experiment.rows == 'release':
    raise DataError(
      "--data: expected files to read, found DATA = 'release'. Give the path of"
      ' the archive, which dss data prepare release fetches.'
    )
  units = None
  if run_config.macro('PACK'):
    drawn = inspection.drawn(experiment, inspection.read(experiment))
    units = inspection.units(experiment, drawn['train'][0])
  if units is None:
    raise DataError(
      '--data: expected a run with PACK = True and examples to pack; found'
      f' PACK = {run_config.macro("PACK")}.'
    )
  given = lengths['inputs'], lengths['targets']
  longest = units.encoder.sum(1).max()
  fills = [row_shapes.fill(units, given)] + [
    row_shapes.best(units, length)
    for length in inspection.ROW_LENGTHS
    if length >= longest
  ]
  return [
    (*each.row_shape, each.units_a_row)
    for i, each in enumerate(fills)
    if i == 0 or each.row_shape != given
  ]


def devices(topology: hardware.Topology) -> Sequence[jax.Device]:
  """Returns the devices of a topology that isn't there, from TPU's compiler.

  Args:
    topology: which chips.

  Raises:
    DataError: the compiler isn't installed, or knows no such topology.
  """
  try:
    import libtpu  # noqa: F401
  except ImportError as error:
    raise DataError(
      "dss plan needs TPU's compiler, which is not installed: pip install"
      " 'dss-jax[plan]'."
    ) from error
  from jax.experimental import topologies

  try:
    return topologies.get_topology_desc(
      platform='tpu', topology_name=topology.name
    ).devices
  except Exception as error:  # The plug-in raises exceptions of its own.
    raise DataError(
      f"--topology {topology.name}: TPU's compiler knows no such topology:"
      f' {str(error).splitlines()[0]}'
    ) from error


class Worker:
  """Answers the requests of one plan.

  Args:
    gin_files: of the run.
    gin_bindings: of the run.
    topology: the chips.
    cache: file of finished compilations, JSON lines; None keeps none.
    dump: folder to which XLA writes programs, as XLA_FLAGS tells it.

  Attributes:
    is_spent: whether it has compiled, which it does only once.
  """

  def __init__(
    self,
    gin_files: Sequence[str],
    gin_bindings: Sequence[str],
    topology: str,
    cache: str | None = None,
    dump: str = '',
  ):
    self._config = gin_files, gin_bindings
    self._topology = hardware.parse(topology)
    self._cache = cache
    self._dump = dump
    self.is_spent = False

  def describe(
    self, count_rows: bool = True, find_shapes: bool = False
  ) -> Mapping[str, Any]:
    """Returns the sizes of the model, and the configured batch sizes.

    Args:
      count_rows: whether the rows of a step are wanted, which may read the
        data.
      find_shapes: whether the data are to be read for shapes of packed rows
        that suit them.
    """
    if find_shapes and any(
      re.match(r'\s*TASK_FEATURE_LENGTHS\s*=', each) for each in self._config[1]
    ):
      raise DataError(
        '--data: expected lengths of rows in a gin file, which the best ones'
        ' can follow, found --gin.TASK_FEATURE_LENGTHS, which wins over files.'
      )
    with run_config.configured(*self._config) as bound:
      model = run_config.resolve(bound, 'model')
      lengths = run_config.macro('TASK_FEATURE_LENGTHS')
      shapes = _row_shapes(lengths) if find_shapes else None
      return {
        'model': dataclasses.asdict(program.sizes(model, lengths)),
        'rows': self._rows() if count_rows else None,
        'shapes': shapes,
        'decode_rows': run_config.macro_or('EVAL_BATCH_SIZE', None),
      }

  def _rows(self) -> int:
    """Returns the rows of a step, for the chips of the topology."""
    step = run_config.macro_or('STEP', None)
    if step is None or step.batch_size:
      return run_config.macro('BATCH_SIZE')
    rows = mixtures.rows_per_step(dataclasses.replace(step, partitioner=None))
    # Each chip gets whole rows.
    return math.ceil(rows / self._topology.count) * self._topology.count

  def plan(
    self,
    candidate: Mapping[str, Any],
    decode: bool = False,
    exact: bool = False,
  ) -> Mapping[str, Any]:
    """Compiles a step and returns its costs.

    Args:
      candidate: fields of a `counting.Candidate`.
      decode: whether to compile decoding instead of a training step.
      exact: whether to wait for the code, for what the compiler expects.
    """
    chosen = counting.Candidate(**candidate)
    chips = devices(self._topology)
    with run_config.configured(*self._config, chosen.gin(decode)) as bound:
      step = program.lower(bound, chips, chosen.rows, decode)
      targets = run_config.macro('TASK_FEATURE_LENGTHS')['targets']
    key = self._key(step, exact)
    cached = self._look_up(key)
    if cached is not None:
      return cached
    self.is_spent = True
    if exact:
      found = cycles.expected(step, self._topology, targets)
    else:
      found = compiled_costs(step, self._topology, targets, self._dump)
    result = {
      'key': key,
      'topology': self._topology.name,
      'candidate': dict(candidate),
      'decode': decode,
      'exact': exact,
      'parameters': step.parameter_bytes,
      'optimizer': step.optimizer_bytes,
      'batch': step.batch_bytes,
      **found,
    }
    self._keep(result)
    return result

  def _key(self, step: program.Step, exact: bool = False) -> str:
    """Digest of what the result depends on: program, chips and compilers."""
    import libtpu

    parts = (
      self._topology.name,
      str(getattr(libtpu, '__version__', '')),
      jax.__version__,
      _EXACT_FORMAT if exact else _FORMAT,
      json.dumps(step.options, sort_keys=True),
      step.lowered.as_text(),
    )
    return hashlib.sha256('\n'.join(parts).encode()).hexdigest()

  def _look_up(self, key: str) -> Mapping[str, Any] | None:
    if self._cache is None or not os.path.exists(self._cache):
      return None
    with open(self._cache, encoding='utf-8') as f:
      for line in f:
        # A killed plan may have left half a line.
        if line.endswith('}\n') and key in line:
          return json.loads(line)
    return None

  def _keep(self, result: Mapping[str, Any]) -> None:
    if self._cache is None:
      return
    os.makedirs(os.path.dirname(os.path.abspath(self._cache)), exist_ok=True)
    with open(self._cache, 'a', encoding='utf-8') as f:
      f.write('\n' * _is_torn(self._cache) + json.dumps(result) + '\n')


def _is_torn(path: str) -> bool:
  """Whether a file ends in the middle of a line."""
  with open(path, 'rb') as f:
    f.seek(0, os.SEEK_END)
    if not f.tell():
      return False
    f.seek(-1, os.SEEK_END)
    return f.read() != b'\n'


def compiled_costs(
  step: program.Step, topology: hardware.Topology, unknown_trips: int, dump: str
) -> Mapping[str, Any]:
  """Compiles a step up to its code; returns whether it fits and what it costs.

  Args:
    step: lowered.
    topology: its chips.
    unknown_trips: the number of trips of a loop whose end depends on data.
    dump: folder to which XLA writes programs.
  """
  start = time.perf_counter()
  try:
    text, report = compiled_text(step.compile, dump)
  except jax.errors.JaxRuntimeError as error:
    sizes = exhausted(str(error))
    if sizes is None:
      raise
    used, limit = sizes
    return {'fits': False, 'needed': used, 'limit': limit}
  estimated = costs.Estimator(
    hlo.parse(text), topology, step.coordinates, unknown_trips
  ).estimate()
  needed = memory_bytes(report)
  arguments = step.parameter_bytes + step.optimizer_bytes + step.batch_bytes
  return {
    'fits': needed <= topology.chip.hbm_bytes,
    'needed': needed,
    'temporaries': max(0, needed - arguments),
    'limit': topology.chip.hbm_bytes,
    'compile_seconds': time.perf_counter() - start,
    **dataclasses.asdict(estimated),
  }


def compiled_text(
  compile_step: Callable[[], Any], dump: str, interval: float = 0.5
) -> tuple[str, str]:
  """Returns a program with its schedule, and its memory report.

  Args:
    compile_step: compiles, with XLA writing to the folder; continues in the
      background if the program is there before it ends.
    dump: the folder.
    interval: seconds between looks at it.

  Raises:
    RuntimeError: the compiler ended without them; or what it raised.
  """
  raised: list[Exception] = []

  def run():
    try:
      compile_step()
    except Exception as error:  # Raised again below.
      raised.append(error)

  thread = threading.Thread(target=run, daemon=True)
  thread.start()
  size = 0
  while True:
    is_over = not thread.is_alive()
    if raised:
      raise raised[0]
    files = [
      sorted(pathlib.Path(dump).glob(f'*.after_optimizations{end}.txt'))
      for end in ('_after_buffer_assignment', '-memory-usage-report')
    ]
    if all(files):
      text, report = (f[-1].read_text(encoding='utf-8') for f in files)
      # Only half of it may be written so far.
      if is_over or (len(text) == size and text.rstrip().endswith('}')):
        return text, report
      size = len(text)
    elif is_over:
      raise RuntimeError(
        f"TPU's compiler left no program in {dump}: expected"
        ' *.after_optimizations_after_buffer_assignment.txt.'
      )
    thread.join(interval)


def memory_bytes(report: str) -> int:
  """Returns the bytes of main memory allocated to a program and its arguments.

  Args:
    report: XLA's, such as `Memory Space: default (color=0)` and, on the next
      line, `Total bytes: 1234 (1.2KiB)`.

  Raises:
    ValueError: it doesn't mention the main memory.
  """
  total = re.search(r'\(color=0\)\s+Total bytes:\s*(\d+)', report)
  if total is None:
    raise ValueError('Memory report: found no total of the main memory.')
  return int(total.group(1))


def exhausted(message: str) -> tuple[int, int] | None:
  """Returns bytes needed and available, from an error of the compiler.

  Args:
    message: such as `… Used 20.50G of 15.75G hbm. Exceeded hbm capacity by …`
      or `… HLO temporaries (20.50G) exceeds available HBM (15.75G) …`.

  Returns:
    None if the message is about something else.
  """
  size = r'([\d.]+)([KMGT]?)\w*'
  match = re.search(
    rf'Used\s+{size}\s+of\s+{size}\s+hbm', message
  ) or re.search(
    rf'\({size}\)\s+exceeds\s+available\s+HBM\s+\({size}\)', message
  )
  if match is None:
    return None
  used, used_unit, limit, limit_unit = match.groups()
  return (
    round(float(used) * _UNITS[used_unit]),
    round(float(limit) * _UNITS[limit_unit]),
  )


def serve(
  requests: Iterable[str], answers: IO[str], options: Mapping[str, Any]
) -> None:
  """Answers requests until there are no more, or until one was compiled.

  Args:
    requests: lines of JSON: {'call': 'describe' or 'plan', arguments …}.
    answers: file to write to.
    options: arguments of `Worker`.
  """
  worker = Worker(**options)
  calls: dict[str, Callable[..., Mapping[str, Any]]]
  calls = {'describe': worker.describe, 'plan': worker.plan}
  for line in requests:
    request = json.loads(line)
    answer: dict[str, Any] = {}
    try:
      answer['result'] = calls[request.pop('call')](**request)
    except Exception as error:
      answer['error'] = str(error)
    answer['last'] = worker.is_spent
    answers.write(json.dumps(answer) + '\n')
    answers.flush()
    if worker.is_spent:
      return


def main() -> None:
  """Serves the process that started this one."""
  answers = os.fdopen(os.dup(1), 'w', encoding='utf-8')
  os.dup2(2, 1)
  serve(sys.stdin, answers, json.loads(sys.argv[1]))
  # Without waiting for the compiler, which still runs in another thread.
  os._exit(0)


if __name__ == '__main__':
  main()
