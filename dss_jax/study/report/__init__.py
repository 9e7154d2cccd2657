"""The report on a study, made of what its runs have left.

  write    makes all of it anew, at any time while the study runs
  require  whether what it needs is installed

Inside:

  writing     its files
  answers     predictions of each run, and which of them are right
  cells       runs as arms that are compared, and where
  comparison  means and differences
  findings    sentences on them, and warnings
  statistics  the numbers of these
  summary     summary.md and results.csv
  screen      the results on a terminal
  figures     accuracy against rows and against size
  curves      loss and accuracy of each run, by step
  browser     questions that methods answer differently
  page        HTML that loads nothing; its templates are in templates/
"""

from dss_jax.study.report.writing import require, write

__all__ = ('require', 'write')
