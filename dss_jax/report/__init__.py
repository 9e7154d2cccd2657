"""Reports as pages: `dss report` on runs, and what `dss study`'s page shares.

  command      `dss report`
  writing      its page
  runs         a run as its folder tells it, and what that lacks
  answered     answers of several runs, judged as the runs did
  scores       accuracies with intervals, classes, other metrics
  charts       curves of runs, with what one sees
  mistakes     answers for the page to search and show
  settings     configuration, data, versions, commands

Shared:

  page         HTML that loads nothing; its templates are in templates/
  drawing      charts as pictures with a page's colors
  line_charts  values by step
  texts        foreign texts of a page's data
  run_files    files of a run's folder, read as data
  predictions  what a run has answered

Importing the package loads none of them.
"""

__all__ = (
  'command',
  'drawing',
  'line_charts',
  'page',
  'predictions',
  'run_files',
  'texts',
)
