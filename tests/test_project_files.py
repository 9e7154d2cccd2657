"""Files that stand beside the code: license, citation, changelog, hooks, CI."""

import hashlib
import pathlib
import re

import pytest
import yaml

import dss_jax

_ROOT = pathlib.Path(__file__).parents[1]
_APACHE_2_0 = 'cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30'


def _text(name: str) -> str:
  return (_ROOT / name).read_text(encoding='utf-8')


def _yaml(name: str) -> dict:
  return yaml.safe_load(_text(name))


def _commands(workflow: str) -> list[str]:
  """What the jobs of a workflow run, a line each."""
  jobs = _yaml(f'.github/workflows/{workflow}')['jobs'].values()
  assert all(job['timeout-minutes'] for job in jobs)
  return [step['run'] for job in jobs for step in job['steps'] if 'run' in step]


def test_the_license_is_the_whole_apache_license():
  text = _text('LICENSE')
  begin = text.split(maxsplit=6)[:6]
  assert ' '.join(begin) == 'Apache License Version 2.0, January 2004'
  assert 'APPENDIX: How to apply the Apache License to your work.' in text
  assert text.endswith('limitations under the License.\n')
  assert hashlib.sha256(text.encode()).hexdigest() == _APACHE_2_0


def test_the_citation_and_the_changelog_have_this_version():
  citation = _yaml('CITATION.cff')
  heading = f'## [{dss_jax.__version__}] - {citation["date-released"]}'
  headings = re.findall('^## .*', _text('CHANGELOG.md'), re.MULTILINE)
  assert citation['version'] == dss_jax.__version__
  assert citation['license'] == 'Apache-2.0'
  assert headings[0] == '## [Unreleased]'
  assert heading in headings


def test_every_folder_of_gin_travels_in_the_package():
  packages = dict(
    re.findall(r"'(dss_jax\.gin[\w.]*)': '([\w/]+)'", _text('setup.py'))
  )
  folders = {
    path.parent.relative_to(_ROOT).as_posix()
    for path in (_ROOT / 'gin').rglob('*.gin')
  }
  assert set(packages.values()) == folders
  assert all(
    name == f'dss_jax.{folder.replace("/", ".")}'
    for name, folder in packages.items()
  )


def test_hooks_are_local_and_run_what_the_extra_dev_installs():
  hooks = []
  for repo in _yaml('.pre-commit-config.yaml')['repos']:
    assert repo['repo'] == 'local'
    hooks += repo['hooks']
  assert all(hook['language'] == 'system' for hook in hooks)
  tools = {hook['entry'].split()[0] for hook in hooks}
  assert tools == {'ruff', 'mdformat', 'mypy'}
  assert all(f"'{tool}>=" in _text('setup.py') for tool in tools)


@pytest.mark.parametrize(
  ('workflow', 'command'),
  [('ci.yml', 'bash .ci/run'), ('slow.yml', 'pytest -m slow')],
)
def test_workflows_run_the_tests(workflow, command):
  assert command in _commands(workflow)
