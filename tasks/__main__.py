"""Lists what `import tasks` registers: `python -m tasks`."""

import seqio

import tasks
from dss_jax import mixtures

_METHODS = {
  ('dss', False): 'labels and rationales',
  ('dss', True): 'labels and rationales, in pairs',
  ('finetune', False): 'labels alone',
  ('single_task', False): 'rationale then label in one target',
}
_DATA = {'sample': 'packaged sample', 'release': 'published data'}


def describe(experiment: mixtures.Experiment) -> str:
  """Says in a line what an experiment trains on."""
  teacher = experiment.teacher
  whose = (
    'gold labels' if experiment.labels == 'gold' else f'labels of {teacher}'
  )
  if experiment.uses_rationales:
    whose += f', rationales of {teacher}'
  return (
    f'{_METHODS[experiment.method, experiment.paired]}; {whose};'
    f' {experiment.data_set}, {_DATA[experiment.place]}'
  )


def main() -> None:
  """Prints a line a mixture, with what it mixes, then a line a task."""
  said, parts = {}, set()
  for experiment in tasks.EXPERIMENTS:
    said[mixtures.train_name(experiment)] = f'train on {describe(experiment)}'
    said[mixtures.eval_name(experiment)] = (
      f'evaluate {experiment.method}; {experiment.data_set},'
      f' {_DATA[experiment.place]}'
    )
  # Those to train on first.
  for name in sorted(said, key=lambda name: (name.startswith('eval_'), name)):
    mixed = [task.name for task in seqio.MixtureRegistry.get(name).tasks]
    parts.update(mixed)
    print(f'mixture  {name}: {said[name]}; mixes {" + ".join(mixed)}')
  for name in sorted(parts):
    task = seqio.TaskRegistry.get(name)
    features = ', '.join(task.output_features)
    print(f'task     {name}: splits {", ".join(task.splits)}; gives {features}')


if __name__ == '__main__':
  main()
