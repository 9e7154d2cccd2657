"""Fuzzes one target, guided by the lines of code that an input reaches.

    pip install atheris
    python -m tests.fuzz.run equation -max_total_time=120

Options after the target are libFuzzer's. An input that is a finding is written
to `crash-…` in the working folder; what was found before is tried in the
default tests (`tests/fuzz/test_targets.py`). Atheris has wheels for Linux.
"""

import pathlib
import sys
import tempfile

import atheris

with atheris.instrument_imports(include=['dss_jax', 't5x']):
  from tests.fuzz import targets

  # A target imports what it reads with when it is called.
  _NAME = sys.argv[1] if len(sys.argv) > 1 else ''
  if _NAME not in targets.TARGETS:
    sys.exit(f'Expected one of {", ".join(targets.TARGETS)}; found {_NAME!r}.')
  for _seed in targets.SEEDS[targets.TARGETS[_NAME]]:
    targets.TARGETS[_NAME](_seed)


def main() -> None:
  """Runs libFuzzer; it ends the process itself."""
  target = targets.TARGETS[_NAME]
  with tempfile.TemporaryDirectory() as corpus:
    for i, seed in enumerate(targets.SEEDS[target]):
      pathlib.Path(corpus, f'seed-{i}').write_bytes(seed)
    limits = ['-timeout=60', '-rss_limit_mb=4096', '-max_len=4096']
    atheris.Setup([sys.argv[0], *limits, *sys.argv[2:], corpus], target)
    atheris.Fuzz()


if __name__ == '__main__':
  main()
