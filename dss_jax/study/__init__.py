"""`dss study`: a grid of runs, their results, and the report on them."""

__all__ = ('command', 'experiments', 'grid', 'report', 'results', 'study_file')
