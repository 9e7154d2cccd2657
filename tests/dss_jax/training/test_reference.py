"""Tests of the reference of macros."""

import pathlib

import pytest

from dss_jax import errors
from dss_jax.training import reference
from t5x.cli import gin_reader

_ROOT = pathlib.Path(__file__).parents[3]


def test_the_page_is_what_the_command_prints():
  page = (_ROOT / 'docs' / 'macros.md').read_text(encoding='utf-8')
  assert page == reference.markdown(), (
    'Write it again: dss options --markdown > docs/macros.md'
  )


@pytest.mark.parametrize(
  'file', sorted(p.name for p in (_ROOT / 'gin').glob('dss*.gin'))
)
def test_every_macro_has_a_meaning(file):
  found = reference.macros(f'gin/{file}')
  assert found
  assert [macro.name for macro in found if not macro.meaning] == []


def test_a_size_changes_values_and_files():
  macros = {m.name: m for m in reference.macros('cqa', 'base')}
  assert macros['LEARNING_RATE'].value == 5e-5
  assert macros['LEARNING_RATE'].file == 'gin/sizes/finetune.gin'
  assert macros['LEARNING_RATE'].meaning == 'Its highest value.'
  assert macros['PACKED_ROW'].value == {'inputs': 256, 'targets': 96}


def test_a_search_looks_at_names_and_meanings():
  found = reference.search(reference.macros(None), 'Rationale')
  names = {macro.name for macro in found}
  assert {'RATIONALE_RATE', 'KEEP_BLANK'} < names
  assert 'LEARNING_RATE' not in names


def test_an_experiment_that_is_none():
  with pytest.raises(errors.DataError, match="Did you mean 'cqa'"):
    reference.macros('cqaa')
  with pytest.raises(errors.DataError, match=r'no\.gin: there is no gin file'):
    reference.macros('no.gin')


def test_a_comment_is_that_of_its_line(tmp_path):
  path = tmp_path / 'a.gin'
  path.write_text(
    '# ---- Title ----\n'
    'A = "# no"  # beside | it\n'
    'B = [1,  # first\n  2]\n'
    '# Above,\n# two lines.\n'
    'C = %A\n'
    '\n'
    'D = @x.y()\n'
    'x.y.z = %C\n'
  )
  found = gin_reader.read([str(path)])
  assert {k: m.meaning for k, m in found.macros.items()} == {
    'A': 'beside | it', 'B': 'first', 'C': 'Above, two lines.', 'D': '',
  }  # fmt: skip
  assert repr(found.macros['D'].value) == '@x.y()'
  assert found.used == {'A', 'C'}
  assert found.macros['C'].line == 7
  assert repr(found.bindings) == "{'x.y.z': %C}"
