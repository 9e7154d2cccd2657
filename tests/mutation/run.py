"""A repeatable run of mutants: faults planted one at a time, and who sees them.

    pip install -e '.[mutation]'
    python -m tests.mutation.run FOLDER --area results --count 150 --seed 20

FOLDER is of this run and keeps it: `session.sqlite`, a session of cosmic-ray
(`cr-report`, `cr-html` and `cr-rate` read it), and `tree/`, a copy of the code
in which the mutants are planted, so that the checkout stays as it is. The same
command goes on where a run was ended. Tests are taken from the checkout anew.

    python -m tests.mutation.run FOLDER --again     # those that survived
    python -m tests.mutation.run FOLDER --again --far
    python -m tests.mutation.run FOLDER --score

`--far` tries survivors on the tests of the wider area, too (mutation.toml).
"""

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

from cosmic_ray import work_db, work_item

from tests.mutation import config as config_lib
from tests.mutation import forkserver, operators, sampling, survivors

_KILLED = work_item.TestOutcome.KILLED
_SURVIVED = work_item.TestOutcome.SURVIVED


def _options(argv: list[str] | None) -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    prog='python -m tests.mutation.run',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('folder', type=pathlib.Path, help='of this run')
  parser.add_argument('--area', help='of mutation.toml, for a new run')
  parser.add_argument('--count', type=int, default=150, help='of mutants')
  parser.add_argument('--seed', type=int, default=20, help='of the draw')
  parser.add_argument(
    '--again', action='store_true', help='run what survived, not what is left'
  )
  parser.add_argument(
    '--far', action='store_true', help='try the tests of the wider area, too'
  )
  parser.add_argument(
    '--only', default='', metavar='TEXT', help='mutants whose job begins so'
  )
  parser.add_argument(
    '--score', action='store_true', help='say how a run stands, and end'
  )
  return parser.parse_args(argv)


def _tracked(root: pathlib.Path) -> list[str]:
  """Paths of what git has or would take, relative to the root."""
  command = ['git', 'ls-files', '-co', '--exclude-standard']
  done = subprocess.run(
    command, cwd=root, capture_output=True, text=True, check=True
  )
  return [n for n in done.stdout.splitlines() if (root / n).exists()]


def copy_tree(root: pathlib.Path, tree: pathlib.Path) -> None:
  """Copies the checkout; into a copy that is there, its tests alone.

  The code stays what the mutants were drawn from.
  """
  new = not tree.exists()
  shutil.rmtree(tree / 'tests', ignore_errors=True)
  for name in _tracked(root):
    if new or name.startswith('tests/'):
      (tree / name).parent.mkdir(parents=True, exist_ok=True)
      shutil.copyfile(root / name, tree / name)
  # By content: a mutant may be as old and as long as its original.
  subprocess.run(
    [sys.executable, '-m', 'compileall', '-q', '--invalidation-mode']
    + ['checked-hash', *forkserver.OURS],
    cwd=tree,
    check=True,
  )


def draw(folder: pathlib.Path, area: str, count: int, seed: int) -> None:
  """Writes a new session with the mutants of an area."""
  settings = config_lib.load()
  tree = folder / 'tree'
  names = operators.names(settings.excluded_operators)
  found: list[work_item.WorkItem] = []
  sources = {}
  for path in config_lib.modules_of(settings, area, tree):
    config_lib.tests_of(settings, path, tree)  # Or it ends here.
    sources[path] = (tree / path).read_text(encoding='utf-8')
    found += sampling.mutants_of(path, sources[path], names, settings.unread)
  chosen = sampling.drawn(found, sources, count, seed)
  with work_db.use_db(str(folder / 'session.sqlite')) as session:
    session.add_work_items(chosen)
  order = [item.job_id for item in chosen]
  about = {'area': area, 'seed': seed, 'mutants': len(found), 'order': order}
  (folder / 'run.json').write_text(json.dumps(about), encoding='utf-8')


def take_back(folder: pathlib.Path) -> None:
  """Restores the module that a mutant was planted in, if there is one."""
  note = folder / survivors.PLANTED
  if note.exists():
    original = json.loads(note.read_text(encoding='utf-8'))
    path = pathlib.Path(original['path'])
    path.write_text(original['text'], encoding='utf-8')
    note.unlink()


class Runner:
  """Runs the tests of a mutant in a session's copy of the code."""

  def __init__(self, folder: pathlib.Path):
    self._config = config_lib.load()
    self._folder = folder
    self._tree = folder / 'tree'
    self._known_file = folder / 'known.json'
    # Processor time of a group of files; whether a test passes by itself.
    self._known: dict[str, dict] = {'cpu': {}, 'passes': {}}
    if self._known_file.exists():
      self._known = json.loads(self._known_file.read_text(encoding='utf-8'))
      # What failed by itself may have done so on a busy machine.
      passes = self._known['passes']
      self._known['passes'] = {key: True for key in passes if passes[key]}

  def _remember(self, kind: str, key: str, value: float | bool) -> None:
    self._known[kind][key] = value
    text = json.dumps(self._known, indent=1)
    self._known_file.write_text(text, encoding='utf-8')

  def _key(self, test: str) -> str:
    """The name of a test with what its file holds."""
    content = (self._tree / test.partition('::')[0]).read_bytes()
    return f'{test} {hashlib.sha256(content).hexdigest()[:12]}'

  def _passes(self, test: str) -> bool:
    """Whether a test passes without a fault; for a file, whether it loads."""
    key = self._key(test)
    if key not in self._known['passes']:
      options = [test] if '::' in test else [test, '--collect-only']
      outcome = forkserver.run(
        options,
        self._folder / 'alone.txt',
        cpu=self._config.cpu_seconds,
        wall=self._config.wall_seconds,
      )
      passed = outcome.status == forkserver.PASSED
      self._remember('passes', key, passed)
      if not passed:
        print(f'  {test} fails by itself; left out', flush=True)
    return self._known['passes'][key]

  def _tests(self, files: list[str]) -> forkserver.Outcome:
    """Runs those tests of some files that pass without a fault."""
    known, group = self._known, ' '.join(files)
    left_out = [
      f'--deselect={test}'
      for key, passes in known['passes'].items()
      if not passes
      and (test := key.rpartition(' ')[0]).startswith(tuple(files))
      if key == self._key(test)
    ]
    more = self._config.cpu_seconds_per_file * len(files)
    limit = self._config.cpu_seconds + more
    if group in known['cpu']:
      limit = min(limit, int(2 * known['cpu'][group]) + 30)
    outcome = forkserver.run(
      [*files, *left_out],
      self._folder / 'output.txt',
      cpu=limit,
      wall=self._config.wall_seconds,
    )
    if outcome.status == forkserver.PASSED:
      most = max(outcome.cpu, known['cpu'].get(group, 0.0))
      self._remember('cpu', group, most)
    return outcome

  def _sees(self, files: list[str], path, before, after) -> forkserver.Outcome:
    """Runs tests with a mutant until one fails that passes without it."""
    while True:
      with self._planted(path, before, after):
        outcome = self._tests(files)
      failed = outcome.failed_tests()
      if not failed or all(self._passes(test) for test in failed):
        return outcome

  @contextlib.contextmanager
  def _planted(self, path: pathlib.Path, before: str, after: str):
    """Has a mutant in the code; `take_back` does, if this process is killed."""
    original = {'path': str(path), 'text': before}
    note = self._folder / survivors.PLANTED
    note.with_suffix('.new').write_text(json.dumps(original), encoding='utf-8')
    note.with_suffix('.new').rename(note)
    try:
      path.write_text(after, encoding='utf-8')
      yield
    finally:
      take_back(self._folder)

  def run(self, item: work_item.WorkItem, far: bool) -> work_item.WorkResult:
    """Plants one mutant, runs its tests and takes it back."""
    spec = item.mutations[0]
    name = spec.module_path.as_posix()
    path = self._tree / name
    groups = config_lib.tests_of(self._config, name, self._tree)
    if not far:
      groups = groups[:-1]
    before = path.read_text(encoding='utf-8')
    after = sampling.planted(item, before)
    for files in filter(None, groups):
      outcome = self._sees(files, path, before, after)
      if outcome.status != forkserver.PASSED:
        break
    seen = outcome.status != forkserver.PASSED
    end = outcome.output[-4000:]
    return work_item.WorkResult(
      worker_outcome=work_item.WorkerOutcome.NORMAL,
      test_outcome=_KILLED if seen else _SURVIVED,
      output=f'{outcome.status} {outcome.cpu:.0f} s\n{end}',
      diff=survivors.changed(before, after),
    )


def _chosen(session, folder, again: bool, only: str) -> list:
  """The mutants of a call, in the order of the draw."""
  if again:
    done = session.completed_work_items
    items = [
      item
      for item, result in done
      if not (result.is_killed or survivors.is_excused(item, result))
    ]
  else:
    items = list(session.pending_work_items)
  about = json.loads((folder / 'run.json').read_text(encoding='utf-8'))
  at = {job: number for number, job in enumerate(about['order'])}
  items.sort(key=lambda item: at[item.job_id])
  return [item for item in items if item.job_id.startswith(only)]


def _work(folder: pathlib.Path, again: bool, far: bool, only: str) -> None:
  forkserver.prepare(folder / 'tree', folder / 'compiled')
  runner = Runner(folder)
  with work_db.use_db(str(folder / 'session.sqlite')) as session:
    for item in _chosen(session, folder, again, only):
      result = runner.run(item, far)
      session.set_result(item.job_id, result)
      spec = item.mutations[0]
      print(
        f'{item.job_id} {result.test_outcome.value} {spec.module_path}'
        f':{spec.start_pos[0]} {result.output.splitlines()[0]}\n'
        f'{result.diff}',
        flush=True,
      )


def main(argv: list[str] | None = None) -> None:
  """Runs, or says how a run stands."""
  options = _options(argv)
  folder = options.folder.resolve()
  if options.score:
    survivors.print_score(folder)
    return
  if os.environ.get('MUTATION_TREE') != str(folder / 'tree'):
    take_back(folder)
    copy_tree(config_lib.ROOT, folder / 'tree')
    # The tests' own modules have to come from the copy, too.
    os.environ['MUTATION_TREE'] = str(folder / 'tree')
    os.chdir(folder / 'tree')
    arguments = [*(argv or sys.argv[1:])]
    arguments[arguments.index(str(options.folder))] = str(folder)
    os.execv(
      sys.executable, [sys.executable, '-m', 'tests.mutation.run', *arguments]
    )
  if not (folder / 'session.sqlite').exists():
    if not options.area:
      raise SystemExit(f'{folder} is new: name an --area of mutation.toml.')
    draw(folder, options.area, options.count, options.seed)
  _work(folder, options.again, options.far, options.only)
  survivors.print_score(folder)


if __name__ == '__main__':
  main()
