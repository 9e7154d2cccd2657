"""Trains, evaluates, infers or compiles, as `--run_mode` says.

    python -m t5x.main --run_mode=train --gin_file=gin/dss_cqa.gin

`python -m t5x.train` is the same as `python -m t5x.main --run_mode=train`, and
so on; `python -m t5x.train --help` has more examples. The names that gin files
look up in `__main__` are all here.
"""

if __name__ == '__main__':
  # First, since TensorFlow looks for its settings while it is imported.
  from t5x.cli import flags

  flags.start()

from collections.abc import Callable, Mapping
from typing import Any

from t5x.cli import commands
from t5x.eval import evaluate
from t5x.infer import (
  create_task_from_tfexample_file,  # noqa: F401
  infer,
  merge_chunks_to_file,  # noqa: F401
  write_inferences_to_file,  # noqa: F401
)
from t5x.precompile import precompile
from t5x.train import train

MODES: Mapping[str, Callable[..., Any]] = {
  'train': train,
  'eval': evaluate,
  'infer': infer,
  'precompile': precompile,
}

if __name__ == '__main__':
  commands.run(MODES)
