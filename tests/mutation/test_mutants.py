"""What a mutation run plants, where, and which tests it names."""

import re

import pytest

from tests.mutation import config


@pytest.mark.parametrize('area', config.load().areas)
def test_every_module_of_an_area_has_tests(area):
  settings = config.load()
  modules = config.modules_of(settings, area, config.ROOT)
  assert len(modules) > 20
  for module in modules:
    own, near, far = config.tests_of(settings, module, config.ROOT)
    assert far and (own or near)
    assert not {*own, *near} & {*far}


def test_areas_share_no_module_and_leave_out_only_what_is_there():
  settings = config.load()
  results, around = (
    config.modules_of(settings, area, config.ROOT) for area in settings.areas
  )
  assert not {*results} & {*around}
  for name in settings.areas['around']['without']:
    assert (config.ROOT / name).is_file()


def test_own_operators_do_what_their_examples_say():
  pytest.importorskip('cosmic_ray', reason='the extra `mutation`')
  from cosmic_ray import mutating

  from tests.mutation import operators

  for operator in operators.OWN.values():
    for example in operator.examples():
      found = mutating.mutate_code(
        example.pre_mutation_code, operator(), example.occurrence
      )
      assert found == example.post_mutation_code


def test_nothing_is_planted_in_types_messages_and_logs():
  pytest.importorskip('cosmic_ray', reason='the extra `mutation`')
  from tests.mutation import operators, sampling

  source = (
    'def f(x: int | None = 1) -> str | None:\n'
    '  y: int | str = 2\n'
    '  if x > 3:\n'
    "    raise ValueError(f'{x + 4}' + str(5))\n"
    '  logging.info(x + 6)\n'
    "  return f'{x - 7}'\n"
  )
  mutants = sampling.mutants_of(
    'm.py', source, operators.names(()), re.compile('logging')
  )
  found = {
    (
      spec.start_pos[0],
      source.splitlines()[spec.start_pos[0] - 1][
        slice(spec.start_pos[1], spec.end_pos[1])
      ],
    )
    for spec in (item.mutations[0] for item in mutants)
    if spec.start_pos[0] == spec.end_pos[0]
  }
  # The default, the value, the comparison; the `raise` as a whole.
  assert found >= {(1, '1'), (2, '2'), (3, '>'), (3, '3')}
  assert {line for line, _ in found} == {1, 2, 3, 4}
  assert [text for line, text in found if line == 4] == [
    "raise ValueError(f'{x + 4}' + str(5))"
  ]
  assert sampling.drawn(mutants, 4, 7) == sampling.drawn(mutants, 4, 7)
  assert sampling.drawn(mutants, 4, 7) != sampling.drawn(mutants, 4, 8)
