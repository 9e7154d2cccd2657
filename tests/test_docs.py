"""Every code block of README and of the pages in docs/.

The default suite reads them all: each is of a known kind, its commands and
options exist, its modules and names are there, its links lead somewhere.
`pytest -m slow tests/test_docs.py` runs them, page by page, each in a copy of
the repository of its own, in the order of the page. There, training takes few
steps, `dss extract` asks a teacher on this machine, and `pip install` only
looks whether there is such an extra; `_TOOLS` are the programs that see to it.
"""

import ast
import csv
import importlib
import importlib.util
import json
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys
import types

import click
import pytest
import yaml

from dss_jax import cli
from tests import doc_pages, gin_text

_ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted(
  path.relative_to(_ROOT).as_posix()
  for path in [
    *_ROOT.glob('*.md'),
    *(_ROOT / 'docs').rglob('*.md'),
  ]
)
_NOTEBOOKS = list((_ROOT / 'docs/notebooks').glob('*.ipynb'))
# Programs of others, and the shell's own words.
_OTHERS = [
  'bash', 'cat', 'cd', 'ct2-transformers-converter', 'curl', 'dask',
  'deactivate', 'do',
  'done', 'else', 'exit', 'export', 'fi', 'for', 'gcloud', 'git', 'head', 'hf',
  'if', 'jupyter', 'kill', 'ls', 'mkdocs', 'mlflow', 'optimum-cli',
  'pre-commit', 'scontrol', 'seqio_cache_tasks', 'sleep', 'source', 'taskset',
  'tensorboard', 'then', 'wandb',
]  # fmt: skip
_PYTHON_OF_OTHERS = ('venv', 'http.server', 'pip')


def _read(page: str) -> str:
  return (_ROOT / page).read_text(encoding='utf-8')


def _blocks(page: str, *languages: str) -> list[doc_pages.Block]:
  found = doc_pages.blocks(page, _read(page))
  return [b for b in found if not languages or b.language in languages]


# ---- What every block is ----------------------------------------------------


def _faults_of_kind(block: doc_pages.Block) -> list[str]:
  found = []
  if block.language not in doc_pages.LANGUAGES:
    expected = ', '.join(doc_pages.LANGUAGES)
    found.append(f'{block}: {block.language!r}, expected one of {expected}')
  if block.mark and block.mark not in doc_pages.MARKS:
    found.append(f'{block}: no such mark: {block.mark!r}')
  if block.mark == 'not run' and len(block.reason.split()) < 3:
    found.append(f'{block}: say why it is not run')
  try:
    if block.language == 'json':
      json.loads(block.text)
    elif block.language == 'yaml':
      list(yaml.safe_load_all(block.text))
    elif block.language == 'python':
      compile(block.text, str(block), 'exec')
  except (ValueError, SyntaxError, yaml.YAMLError) as error:
    found.append(f'{block}: {error}')
  return found


@pytest.mark.parametrize('page', PAGES)
def test_every_block_says_what_it_is(page):
  assert [f for b in _blocks(page) for f in _faults_of_kind(b)] == []


# ---- Commands ---------------------------------------------------------------


def _macros(files: list[str]) -> set[str]:
  """Returns the macros that gin files and what they include bind."""
  found, seen, todo = set(), set(), list(files)
  while todo:
    name = todo.pop()
    path = next(
      (p for p in (_ROOT / name, _ROOT / 't5x' / name) if p.is_file()), None
    )
    if name in seen or path is None:
      continue
    seen.add(name)
    text = path.read_text(encoding='utf-8')
    found |= {s for s, parameter, _ in gin_text.bindings(text) if not parameter}
    todo += re.findall(r"^include '(.+)'", text, re.MULTILINE)
  return found


def _flag_names() -> set[str]:
  from absl import flags

  from t5x.cli import flags as flags_lib

  if 'gin_file' not in flags.FLAGS:
    flags_lib.define_flags()
  defined = flags.FLAGS.flags_by_module_dict()[flags_lib.__name__]
  return {flag.name for flag in defined} | {'help', 'verbosity'}


def _faults_of_t5x(words: list[str]) -> list[str]:
  """Faults of the flags, gin files and macros of a command of the engine."""
  names = _flag_names()
  values = [w.partition('=')[2] for w in words if w.startswith('--gin_file=')]
  found = [
    f'there is no {name}'
    for name in values
    if name.startswith(('gin/', 'docs/')) and not (_ROOT / name).is_file()
  ]
  macros = _macros(values)
  # A file that a run wrote binds what its experiment did.
  made = any(not name.startswith(('gin/', 't5x/')) for name in values)
  for word in words:
    name = word.removeprefix('--').partition('=')[0]
    if not word.startswith('--'):
      found.append(f'unexpected word {word!r}')
    elif name.startswith('gin.'):
      macro = name.removeprefix('gin.')
      if re.fullmatch('[A-Z_]+', macro) and macro not in macros and not made:
        found.append(f'no gin file of it has the macro {macro}')
    elif name not in names:
      found.append(f'there is no flag --{name}')
  return found


def _faults_of_python(words: list[str]) -> list[str]:
  if words[:1] == ['-P']:
    words = words[1:]
  if words[:1] == ['-m']:
    module, rest = words[1], words[2:]
    if module.partition('.')[0] in _PYTHON_OF_OTHERS:
      return []
    if importlib.util.find_spec(module) is None:
      return [f'there is no module {module}']
    if module.startswith('t5x.'):
      return _faults_of_t5x(rest)
    file = _ROOT / (module.replace('.', '/') + '.py')
  else:
    file, rest = _ROOT / words[0], words[1:]
  if not file.is_file():
    # What a block before it wrote, or a package that is a command.
    made = pathlib.Path(words[0]), file.with_suffix('') / '__main__.py'
    return (
      [] if any(p.is_file() for p in made) else [f'there is no {file.name}']
    )
  # What several of them share stands in a module beside them.
  beside = file.parent.glob('*.py') if file.parent.name == 'benchmarks' else ()
  text = ''.join(p.read_text(encoding='utf-8') for p in {file, *beside})
  options = [w.partition('=')[0] for w in rest if w.startswith('--')]
  return [
    f'{file.name} has no {option}'
    for option in options
    if f"'{option}'" not in text and f'"{option}"' not in text
  ]


def _faults_of_pip(words: list[str]) -> list[str]:
  extras = set(re.findall(r"^  '([\w-]+)': ", _read_setup(), re.MULTILINE))
  named = [e for w in words for e in re.findall(r'\[([\w,-]+)\]', w)]
  named = [extra for group in named for extra in group.split(',')]
  ours = any(w.startswith(('.', 'dss-jax')) for w in words)
  missing = [extra for extra in named if ours and extra not in extras]
  return [f'setup.py has no extra {extra}' for extra in missing]


def _read_setup() -> str:
  text = (_ROOT / 'setup.py').read_text(encoding='utf-8')
  return text[text.index('EXTRAS_REQUIRE = {') : text.index('GIN_PACKAGES')]


def _faults_of_pytest(words: list[str]) -> list[str]:
  paths = [w for w in words if w.startswith('tests')]
  return [
    f'there is no {path}' for path in paths if not (_ROOT / path).exists()
  ]


def _faults_of_dss(words: list[str], monkeypatch, capsys) -> list[str]:
  """Has `dss` read the words, with a command that then does nothing."""
  with monkeypatch.context() as patched:
    patched.setattr(click.Command, 'invoke', lambda self, context: None)
    try:
      cli.main(words)
    except SystemExit as end:
      if end.code:
        return [capsys.readouterr().err.strip()]
  return []


def _faults_of_command(words: list[str], monkeypatch, capsys) -> list[str]:
  program, rest = words[0], words[1:]
  if program == 'dss':
    return _faults_of_dss(rest, monkeypatch, capsys)
  if program == 'srun':
    rest = rest[rest.index('python') + 1 :]
    program = 'python'
  if program.startswith('python'):
    return _faults_of_python(rest)
  if program == 'pip':
    return _faults_of_pip(rest)
  if program == 'pytest':
    return _faults_of_pytest(rest)
  if program in _OTHERS or program.startswith(('[', '.')):
    return []
  return [f'unknown program {program!r}']


def _faults_of_commands(block, monkeypatch, capsys) -> list[str]:
  return [
    f'{block}: {" ".join(words)[:100]}: {fault}'
    for words in doc_pages.commands(block.text)
    for fault in _faults_of_command(words, monkeypatch, capsys)
  ]


@pytest.fixture
def with_files(tmp_path, monkeypatch):
  """A folder with what the pages take for granted, as the working one."""
  _write_placeholders(tmp_path)
  (tmp_path / 'docs').symlink_to(_ROOT / 'docs')
  (tmp_path / 'gin').symlink_to(_ROOT / 'gin')
  monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize('page', [p for p in PAGES if _blocks(p, 'sh')])
def test_commands_and_options_exist(page, with_files, monkeypatch, capsys):
  faults = []
  for block in _blocks(page):
    if block.mark == 'file':
      pathlib.Path(block.reason).write_text(block.text, encoding='utf-8')
    elif block.language == 'sh':
      faults += _faults_of_commands(block, monkeypatch, capsys)
  assert faults == []


# ---- Python -----------------------------------------------------------------


def _is_module(name: str) -> bool:
  """Whether there is such a module of ours; imports nothing."""
  path = _ROOT / name.replace('.', '/')
  return path.with_suffix('.py').is_file() or (path / '__init__.py').is_file()


def _has(module: str, name: str) -> bool:
  if _is_module(f'{module}.{name}'):
    return True
  return hasattr(importlib.import_module(module), name)


def _faults_of_imports(block: doc_pages.Block) -> list[str]:
  """Modules that are not there, and names that ours do not have."""
  wanted: list[tuple[str, str]] = []
  for node in ast.walk(ast.parse(block.text)):
    if isinstance(node, ast.Import):
      wanted += [(alias.name, '') for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      wanted += [(node.module or '', alias.name) for alias in node.names]
  found = []
  for module, name in wanted:
    ours = module.partition('.')[0] in ('dss_jax', 't5x', 'tasks')
    if ours and not _is_module(module):
      found.append(f'{block}: there is no module {module}')
    elif ours and name and not _has(module, name):
      found.append(f'{block}: {module} has no {name}')
  return found


@pytest.mark.parametrize('page', [p for p in PAGES if _blocks(p, 'python')])
def test_modules_and_names_exist(page):
  found = [f for b in _blocks(page, 'python') for f in _faults_of_imports(b)]
  assert found == []


# ---- Pages that are made ----------------------------------------------------


def _program(path: str) -> types.ModuleType:
  spec = importlib.util.spec_from_file_location('program', _ROOT / path)
  assert spec is not None and spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_the_page_of_commands_is_current():
  # Otherwise: python docs/generate.py
  assert _program('docs/generate.py').page() == _read('docs/commands.md')


def test_the_tutorials_tickets_are_what_its_program_writes(tmp_path):
  _program('docs/tutorial/make_tickets.py').write(tmp_path)
  for name in ('tickets.jsonl', 'tickets_test.csv'):
    written = (tmp_path / name).read_text(encoding='utf-8')
    assert written == _read(f'docs/tutorial/{name}')
  rows = [
    json.loads(line)
    for line in _read('docs/tutorial/tickets.jsonl').splitlines()
  ]
  with open(tmp_path / 'tickets_test.csv', encoding='utf-8', newline='') as f:
    tests = list(csv.DictReader(f))
  assert (len(rows), len(tests)) == (600, 100)
  assert not {r['ticket'] for r in rows} & {r['ticket'] for r in tests}
  assert len({r['label'] for r in rows} | {r['label'] for r in tests}) == 5


def test_the_tutorial_is_nine_short_commands():
  lines = [
    line
    for block in _blocks('docs/tutorial/README.md', 'sh')
    for line in block.text.splitlines()
  ]
  assert len(lines) == 9
  for line in lines:
    assert len(line) <= 100 and not line.endswith('\\'), line
    assert not re.search(r"""["'][^"']*["'].*["']""", line), line


@pytest.mark.slow  # Reads all of the code.
def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path):
  pytest.importorskip('mkdocs')
  done = subprocess.run(
    [sys.executable, '-m', 'mkdocs', 'build', '--strict', '-d', tmp_path],
    cwd=_ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  pages = list(tmp_path.rglob('*.html'))
  assert len(pages) > 15
  loaded = re.compile(
    r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(?:https?:)?//[^"]*"'
  )
  found = {
    f'{page.name}: {tag}'
    for page in pages
    for tag in loaded.findall(page.read_text(encoding='utf-8'))
    if 'rel="canonical"' not in tag
  }
  assert found == set()


# ---- Links ------------------------------------------------------------------


def _faults_of_link(page: str, place: str) -> list[str]:
  if re.match(r'[a-z]+:', place):
    return []
  path, _, anchor = place.partition('#')
  target = (_ROOT / page).parent / path if path else _ROOT / page
  if not target.exists():
    return [f'{page}: {place} leads nowhere']
  if anchor and target.suffix == '.md':
    text = target.read_text(encoding='utf-8')
    if anchor not in doc_pages.anchors(text):
      return [f'{page}: {place}: there is no such heading']
  return []


@pytest.mark.parametrize('page', PAGES)
def test_links_lead_somewhere(page):
  places = doc_pages.links(_read(page))
  assert [f for p in places for f in _faults_of_link(page, p)] == []


# ---- The reader itself ------------------------------------------------------

_PAGE = """\
# A page

<!-- not run: needs a TPU slice -->

```sh
A=1 dss export runs/dss_cqa student \\
  --step 3 > log.txt   # a comment with 'quotes
python -m t5x.train --gin_file=x.gin --gin.DATA="'release'" && ls | head
```

<!-- a comment of no mark -->

- In a list:

  ```python
  import seqio
  ```

<!-- file: a.yaml -->

Something between.

```yaml
a: 1
```
"""


def test_blocks_are_read_with_their_marks():
  sh, python, text = doc_pages.blocks('page.md', _PAGE)
  assert (sh.line, sh.mark, sh.reason) == (5, 'not run', 'needs a TPU slice')
  assert str(sh) == 'page.md:5' and sh.language == 'sh'
  assert (python.text, python.mark) == ('import seqio\n', '')
  assert (text.language, text.mark) == ('yaml', '')
  assert list(doc_pages.commands(sh.text)) == [
    ['dss', 'export', 'runs/dss_cqa', 'student', '--step', '3'],
    ['python', '-m', 't5x.train', '--gin_file=x.gin', "--gin.DATA='release'"],
    ['ls'],
    ['head'],
  ]


def test_links_and_anchors_are_read():
  text = '## `dss ask`: a, *b*?\n\n[x](a.md#b) ![y](c.png) [z]\n\n[z]: d.md\n'
  assert doc_pages.links(text) == ['a.md#b', 'c.png', 'd.md']
  assert doc_pages.anchors(text) == {'dss-ask-a-b'}


@pytest.mark.parametrize(
  ('command', 'fault'),
  [
    ('dss export runs/dss_cqa student --colour', 'No such option'),
    ('dss exprt runs/dss_cqa student', 'There is no command'),
    ('dss study', 'Missing argument'),
    ('python -m t5x.train --gin_file=gin/cqa.gin', 'there is no gin/cqa.gin'),
    (
      'python -m t5x.train --gin_file=gin/dss_cqa.gin --gin.ALHPA=1',
      'no gin file of it has the macro ALHPA',
    ),
    ('python -m t5x.train --gin_fil=a.gin', 'there is no flag --gin_fil'),
    ('python -m t5x.trian', 'there is no module t5x.trian'),
    ('python -m benchmarks.decode --no-such', 'decode.py has no --no-such'),
    ("pip install -e '.[extarct]'", 'setup.py has no extra extarct'),
    ('pytest tests/test_nothing.py', 'there is no tests/test_nothing.py'),
    ('rm -r runs', "unknown program 'rm'"),
    (
      "gcloud ssh --command='cd x && python -m t5x.trian'",
      'there is no module t5x.trian',
    ),
  ],
)
def test_what_is_wrong_is_found(
  command, fault, with_files, monkeypatch, capsys
):
  block = doc_pages.Block('page.md', 1, 'sh', command)
  (found,) = _faults_of_commands(block, monkeypatch, capsys)
  assert fault in found


def test_other_faults_are_found():
  block = doc_pages.Block('page.md', 1, 'python', 'from dss_jax import modls')
  assert _faults_of_imports(block) == ['page.md:1: dss_jax has no modls']
  for language, text in (
    ('', 'a'),
    ('json', '{'),
    ('yaml', 'a: ['),
    ('python', 'a b'),
  ):
    assert _faults_of_kind(doc_pages.Block('page.md', 1, language, text))
  block = doc_pages.Block('page.md', 1, 'sh', 'a', 'not run', 'slow')
  assert _faults_of_kind(block) == ['page.md:1: say why it is not run']
  assert _faults_of_link('README.md', 'docs/nothing.md')
  assert _faults_of_link('README.md', 'docs/data.md#nothing')
  assert not _faults_of_link('README.md', 'docs/data.md#your-own-rows')


# ---- The real run -----------------------------------------------------------


def _write_placeholders(folder: pathlib.Path) -> None:
  """Writes the files that pages take for the reader's own."""
  lines = _read('docs/tutorial/tickets.jsonl').splitlines()[:60]
  rows = [json.loads(line) for line in lines]
  for name, column in (('my_rows.jsonl', 'input'), ('my_tickets.jsonl', 'q')):
    with open(folder / name, 'w', encoding='utf-8') as f:
      for row in rows:
        f.write(json.dumps({column: row['ticket'], **row}) + '\n')
  for name, part in (('my_rows.csv', rows[:50]), ('my_test.csv', rows[50:])):
    with open(folder / name, 'w', encoding='utf-8') as f:
      f.write('question,label,rationale\n')
      for row in part:
        cells = (row['ticket'], row['label'], row['rationale'])
        f.write(','.join(f'"{cell}"' for cell in cells) + '\n')
  with open(folder / 'questions.jsonl', 'w', encoding='utf-8') as f:
    for row in rows[:3]:
      f.write(json.dumps({'input': row['ticket']}) + '\n')
  (folder / 'new.csv').write_text('input\nThe lamp is late.\n')
  texts = ''.join(row['ticket'] + '\n' for row in rows)
  (folder / 'my_tickets.txt').write_text(texts, encoding='utf-8')
  shutil.copy(_ROOT / 'docs/tutorial/tickets_test.csv', folder / 'gold.csv')
  header, _, rest = (folder / 'gold.csv').read_text().partition('\n')
  header = header.replace('ticket', 'input')
  (folder / 'gold.csv').write_text(f'{header}\n{rest}')


# A program of the page, with the options that make it short.
_TOOL = """\
#!{python}
import os, re, subprocess, sys

words = sys.argv[1:]
dry = bool(os.environ.get('DOCS_DRY_RUN'))
steps = os.environ['DOCS_STEPS']
name = os.path.basename(sys.argv[0])
if name == 'pip':
  sys.exit(0)
if name == 'dss':
  command = words[0]
  words = [w for w in words]
  for i, word in enumerate(words[:-1]):
    if word == '--url':
      words[i + 1] = os.environ['DOCS_TEACHER']
  if 'OPENAI_BASE_URL' in os.environ:
    os.environ['OPENAI_BASE_URL'] = os.environ['DOCS_TEACHER']
  if command in ('train', 'study'):
    words += ['--steps', steps, '--set', 'EVAL_NUM_EXAMPLES=20']
    words += ['--dry-run'] if dry and '--dry-run' not in words else []
  if command == 'extract' and '--draft-prompt' not in words:
    words += ['--limit', '40']
  words = ['-m', 'dss_jax.cli', *words]
  if '--draft-prompt' in words:
    subprocess.run([{python!r}, *words], check=True)
    with open('prompt.yaml') as f:  # What the reader writes.
      text = re.sub('<<WRITE: [^>]*>>', 'delivery', f.read())
    with open('prompt.yaml', 'w') as f:
      f.write(text)
    sys.exit(0)
elif words[:2] == ['-m', 't5x.train']:
  words += ['--dry_run'] if dry else [
    f'--gin.TRAIN_STEPS={{steps}}', f'--gin.EVAL_PERIOD={{steps}}',
    f'--gin.SAVE_PERIOD={{steps}}', '--gin.EVAL_NUM_EXAMPLES=20',
  ]
elif words[:1] == ['-m'] and words[1].startswith('t5x.'):
  words += ['--dry_run'] if dry else []
os.execv({python!r}, [{python!r}, *words])
"""


@pytest.fixture(scope='module')
def teacher():
  """The address of a teacher on this machine."""
  from tests.dss_jax.extract import fault_server

  models = ('my-model', 'gpt-4o-mini', '…')
  with fault_server.running(fault_server.Plan(models=models)) as (_, url):
    yield url


@pytest.fixture(scope='module')
def shared(tmp_path_factory):
  """Prepared data and compiled programs, which the pages share."""
  return tmp_path_factory.mktemp('shared')


@pytest.fixture
def clone(tmp_path):
  """A copy of the repository, as a reader of the page would have it."""
  folder = tmp_path / 'dss-jax'
  folder.mkdir()
  for name in ('benchmarks', 'docs', 'dss_jax', 'gin', 't5x', 'tasks', 'tests'):
    shutil.copytree(
      _ROOT / name, folder / name, ignore=shutil.ignore_patterns('__pycache__')
    )
  for path in _ROOT.iterdir():
    if path.is_file():
      shutil.copy(path, folder)
  _write_placeholders(folder)
  tools = tmp_path / 'bin'
  tools.mkdir()
  for name in ('python', 'dss', 'pip'):
    tool = tools / name
    tool.write_text(_TOOL.format(python=sys.executable), encoding='utf-8')
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
  return folder


def _environment(clone, shared, teacher) -> dict[str, str]:
  environment = dict(os.environ)
  environment.pop('XLA_FLAGS', None)
  environment.update(
    PATH=f'{clone.parent / "bin"}:{environment["PATH"]}',
    PYTHONPATH=str(clone),
    JAX_PLATFORMS='cpu',
    JAX_COMPILATION_CACHE_DIR=str(shared / 'compiled'),
    TFDS_DATA_DIR=str(shared / 'tfds'),
    DOCS_STEPS='20',
    DOCS_TEACHER=teacher,
    COLUMNS='80',
  )
  return environment


def _is_run(block: doc_pages.Block) -> bool:
  return block.language in ('sh', 'python') and block.mark not in (
    'not run',
    'file',
  )


@pytest.mark.slow  # Minutes a page.
@pytest.mark.parametrize(
  'page', [p for p in PAGES if any(map(_is_run, _blocks(p)))]
)
def test_every_block_runs(page, clone, shared, teacher, tmp_path):
  environment = _environment(clone, shared, teacher)
  place = tmp_path / 'place'
  place.write_text(str(clone), encoding='utf-8')
  for block in _blocks(page):
    # Where the blocks before it went.
    folder = pathlib.Path(place.read_text(encoding='utf-8').strip())
    if block.mark == 'file':
      (folder / block.reason).write_text(block.text, encoding='utf-8')
    if not _is_run(block):
      continue
    if block.language == 'python':
      command = ['python', '-c', block.text]
    else:
      text = f'{block.text}\npwd > {place}'
      command = ['bash', '-euo', 'pipefail', '-c', text]
    dry = {'DOCS_DRY_RUN': '1'} if block.mark == 'dry run' else {}
    done = subprocess.run(
      command,
      cwd=folder,
      env=environment | dry,
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      timeout=1800,
    )
    shown = f'{block}:\n{block.text}{done.stdout[-3000:]}'
    print(shown)
    assert done.returncode == 0, shown


@pytest.mark.slow  # Minutes; needs the extra `notebooks`.
@pytest.mark.parametrize('name', sorted(p.name for p in _NOTEBOOKS))
def test_every_notebook_runs(name, clone, shared, teacher):
  nbformat = pytest.importorskip('nbformat')
  nbclient = pytest.importorskip('nbclient')
  path = clone / 'docs/notebooks' / name
  notebook = nbformat.read(path, as_version=4)
  client = nbclient.NotebookClient(
    notebook, timeout=1800, resources={'metadata': {'path': path.parent}}
  )
  environment = _environment(clone, shared, teacher) | {'STEPS': '20'}
  client.execute(env=environment)


def test_notebooks_are_stored_without_outputs():
  assert len(_NOTEBOOKS) >= 2
  for path in _NOTEBOOKS:
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    assert all(not cell.get('outputs') for cell in cells), path
