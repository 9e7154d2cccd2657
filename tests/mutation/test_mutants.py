"""What a mutation run plants, where, and which tests it names."""

import json
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
  first, again, other = (
    sampling.drawn(mutants, {'m.py': source}, 4, seed) for seed in (7, 7, 8)
  )
  assert first == again != other


# Of the two stars, `**` alone may be another operator; of the one, none.
_STARS = 'def f(*, a):\n  return {**a}, a + 1\n'


def _mutants(source):
  from tests.mutation import operators, sampling

  names = operators.names(config.load().excluded_operators)
  return sampling.mutants_of('m.py', source, names, re.compile('logging'))


def test_what_is_no_python_is_not_drawn():
  pytest.importorskip('cosmic_ray', reason='the extra `mutation`')
  from tests.mutation import sampling

  mutants = _mutants(_STARS)
  good = [m for m in mutants if sampling.is_python(sampling.planted(m, _STARS))]
  assert 0 < len(good) < len(mutants)
  places = {m.mutations[0].start_pos for m in mutants}
  good_places = {m.mutations[0].start_pos for m in good}
  assert good_places < places
  for seed in range(5):
    for count in (1, len(good_places), len(places)):
      found = sampling.drawn(mutants, {'m.py': _STARS}, count, seed)
      assert all(mutant in good for mutant in found)
      assert len(found) == min(count, len(good_places))
      assert len({m.mutations[0].start_pos for m in found}) == len(found)


@pytest.mark.parametrize('planted', [False, True])
def test_what_is_no_python_does_not_count(tmp_path, capsys, planted):
  pytest.importorskip('cosmic_ray', reason='the extra `mutation`')
  from cosmic_ray import work_db, work_item

  from tests.mutation import sampling, survivors

  path = tmp_path / 'tree' / 'm.py'
  path.parent.mkdir()
  path.write_text(_STARS)
  mutants = _mutants(_STARS)
  is_good = {
    m.job_id: sampling.is_python(sampling.planted(m, _STARS)) for m in mutants
  }
  survivor = next(m for m in mutants if is_good[m.job_id])
  killed, survived = (
    work_item.WorkResult(
      work_item.WorkerOutcome.NORMAL, '', work_item.TestOutcome(outcome), '- a'
    )
    for outcome in ('killed', 'survived')
  )
  with work_db.use_db(str(tmp_path / 'session.sqlite')) as session:
    session.add_work_items(mutants)
    session.set_multiple_results([*is_good], killed)
    session.set_result(survivor.job_id, survived)
  (tmp_path / 'run.json').write_text('{"area": "x", "seed": 1}')
  if planted:
    # A run that goes on at this moment.
    note = {'path': str(path), 'text': _STARS}
    (tmp_path / survivors.PLANTED).write_text(json.dumps(note))
    path.write_text('')
  survivors.print_score(tmp_path)
  said, count = capsys.readouterr().out, sum(is_good.values())
  assert f'{count - 1} of {count} others caught' in said
  assert f'no Python: {len(mutants) - count}.' in said
  assert f'# {survivor.job_id}, line' in said
