"""Reports as pages: `dss report` on runs, and what `dss study`'s page shares.

  command      `dss report`
  page         HTML that loads nothing; its templates are in templates/
  drawing      charts as pictures with a page's colors
  line_charts  values by step
  texts        foreign texts of a page's data
  run_files    files of a run's folder, read as data
  predictions  what a run has answered

Importing the package loads none of them.
"""

__all__ = (
  'drawing',
  'line_charts',
  'page',
  'predictions',
  'run_files',
  'texts',
)
