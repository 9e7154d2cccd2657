"""The process that compiles and its client, without TPU's compiler."""

import io
import json
import sys
import threading
import time
import types

import jax
import pytest

from dss_jax import run_config
from dss_jax.errors import DataError
from dss_jax.plan import child, costs, counting, hardware, program, worker

FILES = ['gin/dss_cqa.gin']
ROWS = ['BATCH_SIZE = 16', 'LABELS_PER_STEP = None']
FINE = counting.Candidate(2, 2, 'full', 2, 16)


@pytest.fixture(scope='module')
def step():
  """The tiny model's training step, on eight CPU devices."""
  with run_config.configured(FILES, ROWS, FINE.gin()) as bound:
    return program.lower(bound, jax.devices(), FINE.rows)


def test_the_step_is_laid_out_as_the_candidate_says(step):
  assert step.mesh == (4, 2)
  text = step.lowered.as_text()
  # Two microbatches; a layer of the encoder and of the decoder in loops.
  assert text.count('stablehlo.while') >= 5
  assert len(step.coordinates) == 8
  assert step.options == {}  # These devices are CPUs.


def test_memory_of_the_state_is_that_of_one_device(step):
  with run_config.configured(FILES, [], FINE.gin()) as bound:
    model = run_config.resolve(bound, 'model')
    parameters, optimizer, *_ = program.state_sizes(
      model, run_config.macro('TASK_FEATURE_LENGTHS')
    )
  assert parameters / 8 <= step.parameter_bytes < parameters / 4
  # AdamW keeps two moments of each parameter.
  assert optimizer == pytest.approx(2 * parameters, rel=1e-3)
  assert step.optimizer_bytes == pytest.approx(
    2 * step.parameter_bytes, rel=1e-3
  )


def test_adafactor_keeps_less_than_adamw():
  files = [*FILES, 'gin/adafactor.gin']
  with run_config.configured(files, []) as bound:
    model = run_config.resolve(bound, 'model')
    parameters, optimizer, *_ = program.state_sizes(
      model, run_config.macro('TASK_FEATURE_LENGTHS')
    )
  # The tiny model is too narrow for factors; a second moment is all there is.
  assert optimizer == pytest.approx(parameters, rel=1e-2)


def test_the_worker_describes_the_model_of_the_gin_files():
  found = worker.Worker(FILES, ROWS, 'gpu:l4').describe()
  model = counting.Model(**found['model'])
  assert found['rows'] == 16
  assert model.parameter_bytes == 4 * _parameters(model)


def test_shapes_of_rows_that_suit_the_data_are_found():
  planning = worker.Worker(FILES, ROWS, 'gpu:l4')
  own, *others = planning.describe(find_shapes=True)['shapes']
  assert own[:2] == (120, 80)
  assert [inputs for inputs, _, _ in others] == [256, 512, 1024]
  # As many examples as a row is long, or a few more.
  for inputs, _, examples in others:
    assert examples > own[2] * inputs / 120 * 0.95


@pytest.mark.parametrize(
  ('binding', 'message'),
  [
    ('PACK = False', 'found PACK = False'),
    ("TASK_FEATURE_LENGTHS = {'inputs': 8, 'targets': 8}", 'wins over files'),
    ("DATA = 'release'", 'Give the path of the archive'),
  ],
)
def test_a_run_whose_rows_cannot_get_other_lengths_is_refused(binding, message):
  planning = worker.Worker(FILES, [*ROWS, binding], 'gpu:l4')
  with pytest.raises(DataError, match=message):
    planning.describe(find_shapes=True)


def _parameters(model: counting.Model) -> int:
  attention = 4 * model.embed * model.joined
  mlp = (model.gates + 1) * model.embed * model.mlp
  encoder = attention + mlp + 2 * model.embed
  decoder = 2 * attention + mlp + 3 * model.embed
  relative = 2 * 32 * model.heads
  return (
    model.encoder_layers * encoder
    + model.decoder_layers * decoder
    + 2 * model.embed
    + relative
    + 2 * model.vocab * model.embed
  )


def test_gin_files_without_a_training_run_are_refused(tmp_path):
  path = tmp_path / 'other.gin'
  path.write_text('NAME = 1\n')
  with (
    pytest.raises(DataError, match='configure no training'),
    run_config.configured([str(path)], []),
  ):
    pass


def test_a_macro_that_is_not_set_is_named():
  with pytest.raises(DataError, match=r'--gin\.NO_SUCH=VALUE'):
    run_config.macro('NO_SUCH')


@pytest.mark.parametrize(
  ('message', 'expected'),
  [
    (
      'RESOURCE_EXHAUSTED: … Ran out of memory in memory space hbm. Used'
      ' 20.50G of 15.75G hbm. Exceeded hbm capacity by 4.75G.',
      (round(20.5 * 2**30), round(15.75 * 2**30)),
    ),
    (
      'RESOURCE_EXHAUSTED: … the total memory required for HLO temporaries'
      ' (24.89G) exceeds available HBM (15.75G). HLO module: jit_step.',
      (round(24.89 * 2**30), round(15.75 * 2**30)),
    ),
    ('Used 512.5M of 256K hbm', (round(512.5 * 2**20), 2**18)),
    ('Ran out of memory in memory space vmem. Used 20M of 16M vmem', None),
    ('INTERNAL: something else', None),
  ],
)
def test_memory_errors_of_the_compiler_are_parsed(message, expected):
  assert worker.exhausted(message) == expected


REPORT = """Memory Space: default (color=0)
Total bytes: 123 (123B)
Memory Space: vmem (color=1)
Total bytes: 456 (456B)
"""


def test_the_memory_report_tells_of_the_main_memory():
  assert worker.memory_bytes(REPORT) == 123
  with pytest.raises(ValueError, match='main memory'):
    worker.memory_bytes(REPORT.partition('\n')[2])


def test_a_program_is_read_before_its_compiler_ends_and_not_by_half(tmp_path):
  stem = 'module_0001.jit_step.cl_1.after_optimizations'
  program_path = tmp_path / f'{stem}_after_buffer_assignment.txt'
  is_read = threading.Event()

  def compile_step():
    (tmp_path / f'{stem}-memory-usage-report.txt').write_text(REPORT)
    # What XLA writes for the CPU meanwhile is another program.
    other = tmp_path / 'module_0000.jit_f.cpu_after_optimizations.txt'
    other.write_text('other')
    program_path.write_text('ENTRY %main {\n  %a = ')
    time.sleep(0.2)
    program_path.write_text('ENTRY %main {\n  %a = f32[] x()\n}\n\n')
    is_read.wait()

  try:
    text, report = worker.compiled_text(compile_step, str(tmp_path), 0.01)
    assert not is_read.is_set()
    assert text.rstrip().endswith('}')
    assert report == REPORT
  finally:
    is_read.set()


def test_what_the_compiler_raises_is_raised_and_its_silence_is_an_error(
  tmp_path,
):
  def fail():
    raise OSError('no room')

  with pytest.raises(OSError, match='no room'):
    worker.compiled_text(fail, str(tmp_path), 0.01)
  with pytest.raises(RuntimeError, match='left no program'):
    worker.compiled_text(lambda: None, str(tmp_path), 0.01)


def test_results_are_kept_and_found_again_behind_a_torn_line(tmp_path):
  path = tmp_path / 'folder' / 'plan.jsonl'
  one = worker.Worker(FILES, [], 'v5e:2x2', str(path))
  one._keep({'key': 'abc', 'fits': True})
  with path.open('a') as f:
    f.write('{"key": "torn", "fi')  # The plan was killed here.
  one._keep({'key': 'def', 'fits': False})
  again = worker.Worker(FILES, [], 'v5e:2x2', str(path))
  assert again._look_up('abc') == {'key': 'abc', 'fits': True}
  assert again._look_up('def') == {'key': 'def', 'fits': False}
  assert again._look_up('torn') is None


def test_what_is_kept_of_a_program_is_not_taken_for_what_its_code_tells(
  step, monkeypatch
):
  # Its version is a part of the key.
  monkeypatch.setitem(sys.modules, 'libtpu', types.ModuleType('libtpu'))
  one = worker.Worker(FILES, [], 'v5e:2x2')
  assert one._key(step) == one._key(step, exact=False)
  assert one._key(step) != one._key(step, exact=True)


def test_requests_are_answered_one_by_one_and_errors_are_answers():
  requests = io.StringIO(
    '{"call": "plan", "candidate": {}}\n{"call": "plan", "candidate": {}}\n'
  )
  answers = io.StringIO()
  options = {'gin_files': [], 'gin_bindings': [], 'topology': 'v5e:2x2'}
  worker.serve(requests, answers, options)
  lines = [json.loads(line) for line in answers.getvalue().splitlines()]
  assert len(lines) == 2
  assert not any(line['last'] for line in lines)
  assert all('partitions' in line['error'] for line in lines)


def test_a_worker_that_ends_leaves_its_last_words(monkeypatch):
  monkeypatch.setattr(child, '_MODULE', 'dss_jax.no_such_module')
  with child.Child({}) as process:
    for _ in range(2):  # Another one is started each time.
      with pytest.raises(DataError, match=r'exit code 1:\n.*no_such_module'):
        process.call('describe')


@pytest.mark.slow
def test_tpus_compiler_plans_the_tiny_model_within_its_chips(tmp_path):
  pytest.importorskip('libtpu')
  options = {
    'gin_files': FILES,
    'gin_bindings': ROWS,
    'topology': 'v5e:2x2',
    'cache': str(tmp_path / 'plan.jsonl'),
  }
  candidate = counting.Candidate(1, 2, 'full', 1, 16)
  with child.Child(options) as process:
    model = counting.Model(**process.call('describe')['model'])
    found = process.call('plan', candidate=vars(candidate))
    again = process.call('plan', candidate=vars(candidate))
  assert found == again
  assert found['fits']
  assert found['unknown_loops'] == 0
  # Everything inside the layers is computed once more than the model needs.
  needed = 3 * 16 * model.forward_flops() / 4
  assert needed < found['flops'] < 1.5 * needed
  assert found['seconds'] > needed / hardware.parse('v5e:2x2').chip.flops
  assert sum(found['collective_bytes'].values()) > found['parameters']
  assert set(found['collective_bytes']) <= set(costs.COLLECTIVES)
  assert found['needed'] < hardware.parse('v5e:2x2').chip.hbm_bytes
