"""Registers the project's SeqIO tasks and mixtures under their default names.

  import seqio
  import tasks

  mixture = seqio.get_mixture_or_task('dss_cqa_sample_gold_palm')

Importing reads no file and uses no network; a data set is prepared when it is
first read. `python -m tasks` lists the names, `dss_jax.mixtures` explains them.
"""

from tasks import anli1, asdiv, cqa, esnli, svamp

DATA_SETS = (cqa, svamp, asdiv, esnli, anli1)
EXPERIMENTS = tuple(
  experiment for module in DATA_SETS for experiment in module.EXPERIMENTS
)
