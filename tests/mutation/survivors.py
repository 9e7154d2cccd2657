"""Mutants that no test sees, with the reason, and the score of a run."""

import difflib
import json
import pathlib
import tomllib

from cosmic_ray import work_db

FILE = pathlib.Path(__file__).with_name('survivors.toml')


def changed(before: str, after: str) -> str:
  """Returns the lines that a mutant changes, as `- …` and `+ …`."""
  lines = difflib.ndiff(before.splitlines(), after.splitlines())
  kept = [x for x in lines if x.startswith(('- ', '+ '))]
  return '\n'.join(f'{x[0]} {x[2:].strip()}' for x in kept)


def known() -> dict[tuple[str, str], str]:
  """Returns the reasons of survivors.toml by module and changed lines."""
  with FILE.open('rb') as file:
    read = tomllib.load(file)
  return {
    (entry['module'], entry['change'].strip()): entry['why']
    for entry in read['survivors']
  }


def entry(module: str, change: str) -> str:
  """Returns what survivors.toml has of a survivor, but for the reason."""
  text = change.replace('\\', '\\\\').replace('"""', '""\\"')
  return (
    f'[[survivors]]\nmodule = {module!r}\nchange = """\n{text}"""\nwhy = \'\'\n'
  )


def print_score(folder: pathlib.Path) -> None:
  """Prints what survived, and the share caught of what changes behavior.

  A survivor that survivors.toml has a reason for changes no behavior; one that
  it lacks is printed as an entry for it.
  """
  reasons = known()
  about = json.loads((folder / 'run.json').read_text(encoding='utf-8'))
  caught, excused, open_ones = 0, 0, []
  with work_db.use_db(str(folder / 'session.sqlite')) as session:
    for item, result in session.completed_work_items:
      spec = item.mutations[0]
      if result.is_killed:
        caught += 1
        continue
      name = spec.module_path.as_posix()
      if (name, result.diff) in reasons:
        excused += 1
        continue
      place = f'# {item.job_id}, line {spec.start_pos[0]}'
      open_ones.append(f'{place}\n{entry(name, result.diff)}')
    left = session.num_work_items - session.num_results
  print(*sorted(open_ones), sep='\n')
  counted = caught + len(open_ones)
  print(
    f'{about["area"]}, seed {about["seed"]}: {counted + excused} mutants run,'
    f' {left} left; {excused} change no behavior; {caught} of {counted} others'
    f' caught ({caught / max(counted, 1):.1%}).'
  )
