"""The command `dss report`: one page on a run, or on several overlaid.

dss report runs/dss_cqa runs/dss_cqa_finetune --out both.html
"""

import pathlib
from collections.abc import Sequence

import click

from dss_jax import neutral


@click.command()
@click.argument('runs', nargs=-1, required=True, metavar='RUN...')
@click.option(
  '--out',
  default='report.html',
  type=click.Path(dir_okay=False, path_type=pathlib.Path),
  help='The page.',
)
def report(runs: Sequence[str], out: pathlib.Path) -> None:
  """Writes a page on runs: scores, curves, mistakes, configuration.

  RUN is the folder of a run, its MODEL_DIR, finished or not; of several, curves
  and answers are compared. The page is one file that loads nothing. Nothing of
  a run's folder is executed.

  \b
  Example:
    dss report runs/dss_cqa
    dss report runs/dss_cqa runs/dss_cqa_finetune --out both.html
  """  # noqa: D301
  # Imported late, so that `--help` is quick.
  from dss_jax.report import writing

  writing.write(runs, out)
  neutral.say(writing.advice(out))
