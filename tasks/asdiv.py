"""SVAMP with ASDiv's rows added to its train split, tested on SVAMP's."""

from tasks import defaults

EXPERIMENTS = defaults.register('asdiv', {'sample': ('palm',)})
