"""Mutants that no test sees, with the reason, and the score of a run."""

import difflib
import functools
import json
import pathlib
import tomllib

from cosmic_ray import work_db, work_item

from tests.mutation import sampling

FILE = pathlib.Path(__file__).with_name('survivors.toml')
# In a session's folder: the module that a mutant is in now, as it was.
PLANTED = 'planted.json'


def changed(before: str, after: str) -> str:
  """Returns the lines that a mutant changes, as `- …` and `+ …`."""
  lines = difflib.ndiff(before.splitlines(), after.splitlines())
  kept = [x for x in lines if x.startswith(('- ', '+ '))]
  return '\n'.join(f'{x[0]} {x[2:].strip()}' for x in kept)


@functools.cache
def known() -> dict[tuple[str, str], str]:
  """Returns the reasons of survivors.toml by module and changed lines."""
  with FILE.open('rb') as file:
    read = tomllib.load(file)
  return {
    (entry['module'], entry['change'].strip()): entry['why']
    for entry in read['survivors']
  }


def is_excused(item: work_item.WorkItem, result: work_item.WorkResult) -> bool:
  """Whether survivors.toml has a reason for a survivor."""
  module = item.mutations[0].module_path.as_posix()
  return (module, result.diff) in known()


def entry(module: str, change: str) -> str:
  """Returns what survivors.toml has of a survivor, but for the reason."""
  text = change.replace('\\', '\\\\').replace('"""', '""\\"')
  return (
    f'[[survivors]]\nmodule = {module!r}\nchange = """\n{text}"""\nwhy = \'\'\n'
  )


def _is_python(folder: pathlib.Path, item: work_item.WorkItem) -> bool:
  """Whether a mutant of a session, which may be an older one, is Python."""
  path = folder / 'tree' / item.mutations[0].module_path
  source = path.read_text(encoding='utf-8')
  note = folder / PLANTED
  if note.exists():
    original = json.loads(note.read_text(encoding='utf-8'))
    if original['path'] == str(path):
      source = original['text']
  return sampling.is_python(sampling.planted(item, source))


def print_score(folder: pathlib.Path) -> None:
  """Prints what survived, and the share caught of what changes behavior.

  A survivor that survivors.toml has a reason for changes no behavior; one that
  it lacks is printed as an entry for it. What is no Python says nothing about
  tests, and does not count.
  """
  about = json.loads((folder / 'run.json').read_text(encoding='utf-8'))
  caught, excused, broken, open_ones = 0, 0, 0, []
  with work_db.use_db(str(folder / 'session.sqlite')) as session:
    for item, result in session.completed_work_items:
      spec = item.mutations[0]
      if result.is_killed:
        is_python = _is_python(folder, item)
        caught, broken = caught + is_python, broken + (not is_python)
        continue
      if is_excused(item, result):
        excused += 1
        continue
      name = spec.module_path.as_posix()
      place = f'# {item.job_id}, line {spec.start_pos[0]}'
      open_ones.append(f'{place}\n{entry(name, result.diff)}')
    left = session.num_work_items - session.num_results
  print(*sorted(open_ones), sep='\n')
  counted = caught + len(open_ones)
  print(
    f'{about["area"]}, seed {about["seed"]}: {counted + excused} mutants run,'
    f' {left} left; {excused} change no behavior; {caught} of {counted} others'
    f' caught ({caught / max(counted, 1):.1%}).'
    + (f' Not counted, since they are no Python: {broken}.' if broken else '')
  )
