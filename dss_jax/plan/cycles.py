"""What TPU's compiler itself expects of a program, once it has written code.

Along with the code the compiler says how many cycles it expects of a fusion, a
copy, or another instruction that works on arrays: element-wise arithmetic, with
dropout's random bits, matrices that don't fill the matrix units, traffic and
latencies included. It says nothing of scalars, nor of what runs beside the
program: transfers between chips, and copies between memories. Those keep the
peaks that `costs.py` replays them with.
"""

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from dss_jax.errors import DataError
from dss_jax.plan import costs, hardware, hlo, program


def expected(
  step: program.Step, topology: hardware.Topology, unknown_trips: int
) -> Mapping[str, Any]:
  """Compiles a step to its code; returns the costs that the compiler expects.

  Args:
    step: lowered.
    topology: its chips.
    unknown_trips: the number of trips of a loop whose end depends on data.

  Returns:
    The fields of a `costs.Costs`, with 'compile_seconds'.

  Raises:
    DataError: the compiler says nothing about cycles.
  """
  start = time.perf_counter()
  text = step.compile().as_text() or ''
  found = costs.Estimator(
    hlo.parse(text),
    topology,
    step.coordinates,
    unknown_trips,
    topology.chip.clock,
  ).estimate()
  if not any(part.estimated for part in found.parts.values()):
    raise DataError(
      '--exact: expected "estimated_cycles" in the program that the compiler'
      ' leaves, found none. libtpu 0.0.52 writes them; with one that does not,'
      ' leave the option out.'
    )
  return {
    'compile_seconds': time.perf_counter() - start,
    **dataclasses.asdict(found),
  }
