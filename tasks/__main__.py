"""Lists what `import tasks` registers: `python -m tasks`."""

import seqio

import tasks


def main() -> None:
  """Prints a line a mixture, with what it mixes, then a line a task."""
  trained = {e.train_name for e in tasks.EXPERIMENTS}
  evaluated = {e.eval_name() for e in tasks.EXPERIMENTS}
  parts = set()
  for name in sorted(trained) + sorted(evaluated):
    mixture = seqio.MixtureRegistry.get(name)
    names = [task.name for task in mixture.tasks]
    parts.update(names)
    print(f'mixture  {name}: {" + ".join(names)}')
  for name in sorted(parts):
    splits = ', '.join(seqio.TaskRegistry.get(name).splits)
    print(f'task     {name}: {splits}')


if __name__ == '__main__':
  main()
