"""`dss train`, `dss check` and `dss options`: a run from options to gin file.

  command      the three commands
  options      what was asked for, as macros of the gin files
  from_data    what the rows say: lengths, packing, steps, periods, classes
  run_file     the run's gin file: written, read back, compared
  composition  from the options to a run that is ready to begin
  checks       everything that a run can be asked before it trains
  reference    every macro with value, meaning and file

Importing the package loads none of them.
"""

__all__ = ('command', 'reference', 'run_file')
