"""Lists what `import tasks` registers: `python -m tasks`."""

import seqio

import tasks
from dss_jax import mixtures, neutral

_METHODS = {
  ('dss', False): 'labels and rationales',
  ('dss', True): 'labels and rationales, in pairs',
  ('finetune', False): 'labels alone',
  ('single_task', False): 'rationale then label in one target',
}
_DATA = {'sample': 'packaged sample', 'release': 'published data'}


def describe(experiment: mixtures.Experiment) -> str:
  """Returns one line about what an experiment trains on."""
  teacher = experiment.teacher
  sources = (
    'gold labels' if experiment.labels == 'gold' else f'labels of {teacher}'
  )
  if experiment.uses_rationales:
    sources += f', rationales of {teacher}'
  return (
    f'{_METHODS[experiment.method, experiment.paired]}; {sources};'
    f' {_data(experiment)}'
  )


def _data(experiment: mixtures.Experiment) -> str:
  return f'{experiment.data_set}, {_DATA[experiment.place]}'


def main() -> None:
  """Prints one line per mixture, with what it mixes, then one per task."""
  lines: dict[str, str] = {}
  parts: set[str] = set()
  for experiment in tasks.EXPERIMENTS:
    lines[mixtures.train_name(experiment)] = f'train on {describe(experiment)}'
    lines[mixtures.eval_name(experiment)] = (
      f'evaluate {experiment.method}; {_data(experiment)}'
    )
  # Training mixtures come first.
  for name in sorted(lines, key=lambda name: (name.startswith('eval_'), name)):
    mixed = [task.name for task in seqio.MixtureRegistry.get(name).tasks]
    parts.update(mixed)
    neutral.say(f'mixture  {name}: {lines[name]}; mixes {" + ".join(mixed)}')
  for name in sorted(parts):
    task = seqio.TaskRegistry.get(name)
    features = ', '.join(task.output_features)
    neutral.say(
      f'task     {name}: splits {", ".join(task.splits)}; gives {features}'
    )


if __name__ == '__main__':
  main()
