"""Effect of distilling step by step, measured on the packaged sample.

    python benchmarks/effect.py --out studies/sample --workers 2

One call of `dss study`: finetune, distill, dss, single_task and shuffled, on
250, 500 and 1,000 rows, with five seeds each. Further options are those of
`dss study`. About a minute a run and core.
"""

import pathlib
import sys

from dss_jax import cli

_STUDY = pathlib.Path(__file__).parents[1] / 'docs' / 'studies' / 'sample.yaml'


def main() -> None:
  """Runs the study; the options of this program are its own."""
  cli.main(['study', str(_STUDY), *sys.argv[1:]])


if __name__ == '__main__':
  main()
