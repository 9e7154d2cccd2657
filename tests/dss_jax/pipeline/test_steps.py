"""Every step has LABELS_PER_STEP label examples, whatever else differs."""

import collections
import dataclasses
import itertools

import numpy as np
import pytest
import seqio
import tensorflow as tf

from dss_jax import feature_converters, mixtures
from dss_jax.errors import DataError
from dss_jax.pipeline import cached_tasks, orders, step_rows, steps
from t5x import data, errors
from tests.dss_jax.pipeline import made_mixtures

LENGTHS = {'inputs': 120, 'targets': 112}
_RATIONALE = 2


def step_of(method='dss', labels=16, lengths=None, **options):
  names = {field.name for field in dataclasses.fields(mixtures.Step)}
  given = {k: options.pop(k) for k in list(options) if k in names}
  options = {'data_set': 'svamp', 'paired': True, **options}
  experiment = mixtures.Experiment(method=method, **options)
  return mixtures.Step(experiment, lengths or LENGTHS, labels, **given)


def config_of(step, **options):
  return data.DatasetConfig(
    mixture_or_task_name=mixtures.step_mixture(step),
    task_feature_lengths=step.task_feature_lengths,
    split='train',
    batch_size=mixtures.rows_per_step(step),
    pack=step.pack,
    **{'shuffle': True, 'seed': 0, **options},
  )


def batches(config, host=0, hosts=1):
  converter = feature_converters.DistillFeatureConverter
  return data.get_dataset(config, host, hosts, converter)


def segments(batch):
  """The (task, inputs, targets) of every example of a batch."""
  sides = {}
  for side, name in (('encoder', 'input'), ('decoder', 'target')):
    tokens = batch[f'{side}_{name}_tokens']
    ids = batch.get(f'{side}_segment_ids', (tokens != 0).astype(int))
    sides[side] = tokens, ids
  (inputs, input_ids), (targets, target_ids) = sides.values()
  found = []
  for row in range(len(inputs)):
    for k in range(1, target_ids[row].max() + 1):
      mine = target_ids[row] == k
      (task,) = set(batch['decoder_task_ids'][row][mine].tolist())
      of_input = inputs[row][input_ids[row] == k]
      found.append((task, of_input.tobytes(), targets[row][mine].tobytes()))
  return found


def source_rows(step):
  """How often each (inputs, targets) of a label task is in the data."""
  name = mixtures.train_mixture(step.experiment)
  tasks = seqio.get_mixture_or_task(name).tasks
  (task,) = [t for t in tasks if '_rationale_' not in t.name]
  examples = task.get_dataset(step.task_feature_lengths, 'train', shuffle=False)
  return collections.Counter(
    (x['inputs'].tobytes(), x['targets'].tobytes())
    for x in examples.as_numpy_iterator()
  )


def check_two_epochs(step, read):
  """Counts label examples at each step, and how often each row was seen."""
  rows = source_rows(step)
  seen = collections.Counter()
  for i in range(-(-2 * sum(rows.values()) // step.labels_per_step)):
    found = segments(next(read))
    labels = [x[1:] for x in found if x[0] != _RATIONALE]
    assert len(labels) == step.labels_per_step, i
    seen.update(labels)
    passes, begun = divmod(sum(seen.values()), sum(rows.values()))
    for row, count in rows.items():
      least, most = count * passes, count * (passes + (begun > 0))
      assert least <= seen[row] <= most, (i, row)
  assert set(seen) == set(rows)
  assert passes == 2


@pytest.mark.parametrize('pack', [True, False])
@pytest.mark.parametrize(
  ('method', 'options'),
  [
    ('dss', {}),
    ('dss', {'paired': False, 'rationale_rate': 0.3}),
    ('finetune', {}),
    ('single_task', {}),
  ],
)
def test_each_step_has_so_many_label_examples(method, options, pack):
  # 23 examples a step: no epoch ends with a step.
  step = step_of(method, 23, pack=pack, **options)
  check_two_epochs(step, batches(config_of(step)).as_numpy_iterator())


def test_the_rationales_of_a_step_are_those_of_its_questions():
  step = step_of(labels=10)
  for batch in batches(config_of(step)).take(20).as_numpy_iterator():
    questions = collections.defaultdict(set)
    for task, inputs, _ in segments(batch):
      questions[task].add(inputs)
    # The prefixes differ in the first tokens alone.
    tails = {
      task: {np.frombuffer(x, np.int32)[3:].tobytes() for x in texts}
      for task, texts in questions.items()
    }
    assert len(questions[_RATIONALE]) >= 8
    overlap = tails[_RATIONALE] & tails[1]
    assert len(overlap) >= len(tails[_RATIONALE]) - 1


def test_a_blank_rationale_leaves_its_row_empty():
  step = step_of(labels=8, pack=False, data_set='cqa')
  blank = 0
  for batch in batches(config_of(step)).take(40).as_numpy_iterator():
    tasks = batch['decoder_task_ids'].max(1)
    assert (tasks[::2] == 1).all()
    assert set(tasks[1::2].tolist()) <= {0, _RATIONALE}
    blank += int((tasks[1::2] == 0).sum())
  assert blank


def test_rates_without_pairs_give_as_many_rationales():
  step = step_of(paired=False, rationale_rate=0.3)
  counts = [
    sum(x[0] == _RATIONALE for x in segments(batch))
    for batch in batches(config_of(step)).take(10).as_numpy_iterator()
  ]
  # 4.8 a step.
  assert sum(counts) == 48
  assert set(counts) == {4, 5}


@pytest.mark.parametrize(
  ('pack', 'parts'),
  [
    (True, None),
    (False, 2),
    pytest.param(True, 2, marks=pytest.mark.slow),
    pytest.param(False, None, marks=pytest.mark.slow),
  ],
)
def test_two_hosts_read_what_one_does_also_after_a_kill(parts, pack):
  step = step_of(data_parts=parts, num_microbatches=2, pack=pack)
  config = config_of(step)

  def opened(host, state=None, snapshot=None):
    made = data.TrainIterator(
      batches(config, host, 2), lambda batch: batch, snapshot_period=0
    )
    if state is not None:
      made.set_state(state)
      made.set_snapshot(snapshot)
    return made

  def together(hosts):
    rows = [next(host) for host in hosts]
    return {k: np.concatenate([batch[k] for batch in rows]) for k in rows[0]}

  def read():
    hosts = [opened(0), opened(1)]
    for i in itertools.count():
      if i == 11:
        left = [(host.get_state(), host.get_snapshot()) for host in hosts]
        for host in hosts:
          host.close()
        hosts = [opened(i, *saved) for i, saved in enumerate(left)]
      yield together(hosts)

  found = list(itertools.islice(read(), 20))
  alone = batches(config).take(20).as_numpy_iterator()
  for mine, other in zip(found, alone, strict=True):
    for name, value in other.items():
      np.testing.assert_array_equal(mine[name], value)
  check_two_epochs(step, iter([*found, *found]))


def test_rows_that_are_too_few_are_an_error_that_names_the_macro():
  with pytest.raises(
    DataError, match=r'ROWS_PER_STEP is 2, too few for LABELS'
  ):
    step_of(rows_per_step=2).layout()
  with pytest.raises(DataError, match=r'ROWS_PER_STEP is 31, .* 32 examples'):
    step_of(rows_per_step=31, pack=False).layout()
  with pytest.raises(DataError, match=r'expected a multiple of 4.* such as 32'):
    step_of(rows_per_step=30, num_microbatches=4).layout()


def test_a_step_that_does_not_fit_is_never_smaller():
  step = step_of()
  layout = step.layout()
  mixture = steps.StepMixture(
    'too_small',
    [(name, 1.0) for name in [mixtures.train_mixture(step.experiment)]],
    step=dataclasses.replace(layout, rows=layout.rows // 2),
  )
  config = dataclasses.replace(
    config_of(step),
    mixture_or_task_name=mixture,
    batch_size=layout.rows // 2,
  )
  with pytest.raises(Exception, match=r'step 1 do not fit.*ROWS_PER_STEP'):
    next(batches(config).as_numpy_iterator())


def test_batches_of_other_rows_than_a_step_has_are_refused():
  step = step_of()
  config = dataclasses.replace(config_of(step), batch_size=3)
  with pytest.raises(errors.UserError, match='batch_size is 3, but a step'):
    batches(config)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'batch_size': 8}, 'LABELS_PER_STEP = 16 and BATCH_SIZE = 8'),
    ({'labels': None}, 'LABELS_PER_STEP .* BATCH_SIZE .* found neither'),
    ({'labels': 2.5}, 'LABELS_PER_STEP is 2.5: expected a positive whole'),
    ({'labels': -1}, 'LABELS_PER_STEP is -1'),
    ({'labels': True}, 'LABELS_PER_STEP is True'),
    ({'rows_per_step': 0}, 'ROWS_PER_STEP is 0: expected a positive whole'),
    ({'data_parts': 0}, r'mixtures\.Step\.data_parts is 0'),
    ({'pack': 'no'}, "PACK is 'no'"),
    ({'labels': None, 'batch_size': 8, 'rows_per_step': 8},
     'ROWS_PER_STEP = None'),
  ],
)  # fmt: skip
def test_wrong_steps_are_refused(options, message):
  with pytest.raises(DataError, match=message):
    step_of(**options)


def test_what_a_step_asks_for_is_laid_out(monkeypatch):
  # The rows are the same for many of these, so they are looked at here.
  monkeypatch.setattr(
    mixtures.registration, 'register_steps', lambda _, request: request
  )
  step = step_of(labels=6, lengths={'inputs': 9, 'targets': 5})
  found = step.layout()
  assert found == step_rows.Request(
    labels=6,
    label_task=found.label_task,
    lengths=(9, 5),
    pack=True,
    multiple=1,
    rows=None,
    seed=0,
    parts=None,
  )
  assert '_rationale_' not in found.label_task
  assert seqio.TaskRegistry.get(found.label_task).source.splits
  options = {'pack': False, 'seed': 7, 'data_parts': 3, 'rows_per_step': 1}
  asked = dataclasses.replace(step, num_microbatches=5, **options).layout()
  assert asked == dataclasses.replace(
    found, pack=False, multiple=5, rows=1, seed=7, parts=3
  )
  assert dataclasses.replace(step, seed=None).layout() == found


def test_a_step_may_count_rows_in_place_of_labels():
  step = step_of(labels=None, batch_size=12)
  assert mixtures.rows_per_step(step) == 12
  assert mixtures.step_mixture(step) == mixtures.train_name(step.experiment)
  with pytest.raises(DataError, match='BATCH_SIZE is 12: expected LABELS_PER'):
    step.layout()


def test_a_step_of_data_that_is_not_there_is_explained(tmp_path):
  with pytest.raises(
    DataError, match=r"expected the data set 'svamp' .* found"
  ):
    step_of(data=str(tmp_path)).layout()


def test_what_a_step_cannot_be_read_with_is_refused():
  step = step_of(labels=15)
  with pytest.raises(DataError, match=r'2 parts .* expected a multiple'):
    step_of(labels=15, data_parts=2).layout()
  config = config_of(step)
  with pytest.raises(DataError, match='use_cached = True'):
    batches(dataclasses.replace(config, use_cached=True))
  mixture = seqio.get_mixture_or_task(config.mixture_or_task_name)
  with pytest.raises(DataError, match='num_epochs=None, found 1'):
    mixture.get_dataset(LENGTHS, num_epochs=1)
  with pytest.raises(DataError, match=r'15, .* in 2 parts'):
    mixture.get_dataset(LENGTHS, shard_info=seqio.ShardInfo(0, 2))


def test_rows_divide_among_devices_and_microbatches():
  @dataclasses.dataclass(frozen=True)
  class Mesh:
    data_mesh_size: int

  few = step_of(num_microbatches=None).layout().rows
  many = step_of(num_microbatches=2, partitioner=Mesh(4)).layout().rows
  assert many % 8 == 0
  assert few <= many < few + 8


def test_rates_belong_to_tasks_whatever_their_names(write_release, tfds_dir):
  """SeqIO sorts tasks by their names, which hold digits of the content."""
  for n in range(20):
    folder = write_release(train=24 + n, name=f'release{n}')
    step = step_of(
      labels=6,
      data_set='cqa',
      data=str(folder),
      paired=False,
      rationale_rate=0.5,
    )
    name = mixtures.train_mixture(step.experiment)
    first = seqio.get_mixture_or_task(name).tasks[0].name
    if '_rationale_' in first:
      break
  assert '_rationale_' in first
  assert step.layout().per_task == (3.0, 6.0)
  assert step.layout().examples == sum(source_rows(step).values())
  check_two_epochs(step, batches(config_of(step)).as_numpy_iterator())


def test_a_step_is_shuffled_unless_asked_not_to():
  mixture = seqio.get_mixture_or_task(mixtures.step_mixture(step_of()))

  def first(**options):
    read = mixture.get_dataset(LENGTHS, seed=3, **options)
    return next(read.as_numpy_iterator())['inputs'].tolist()

  assert first() == first(shuffle=True) != first(shuffle=False)


def test_large_steps_are_read_in_parts():
  def parts(labels):
    return step_rows.Request(
      labels, 'unused', (512, 192), True, 1, None, 0, None
    ).used_parts

  assert [parts(n) for n in (16, 64, 511, 512, 1024, 768, 1 << 20)] == [
    1, 1, 1, 2, 4, 2, 16
  ]  # fmt: skip


def test_a_small_set_that_is_not_kept_is_measured_whole(monkeypatch):
  def tokens():
    monkeypatch.setattr(step_rows, '_LAYOUTS', {})
    layout = step_of('finetune', 20, fraction=0.25).layout()
    return np.array(layout.fill) * layout.rows

  kept = tokens()
  monkeypatch.setattr('dss_jax.pipeline.cached_tasks._SMALL', 1)
  np.testing.assert_allclose(tokens(), kept, rtol=1e-9)


def test_a_set_that_is_not_kept_comes_epoch_by_epoch_too(monkeypatch):
  monkeypatch.setattr('dss_jax.pipeline.cached_tasks._SMALL', 1)
  step = step_of('finetune', 20, fraction=0.5)
  assert step.layout().most == (None,)
  check_two_epochs(step, batches(config_of(step)).as_numpy_iterator())


def test_an_unpacked_step_without_pairs_of_a_set_that_is_not_kept(monkeypatch):
  monkeypatch.setattr('dss_jax.pipeline.cached_tasks._SMALL', 1)
  step = step_of(labels=6, paired=False, pack=False, fraction=0.25)
  check_two_epochs(step, batches(config_of(step)).as_numpy_iterator())


MADE = steps.Layout(
  'made', 8, 30, (3.0, 8.0), 6, 1, (9, 7), ((2.0, 9.0), None), (0.5, 0.5)
)


def made_mixture(more=(), **options):
  """Steps of 8 labels, which SeqIO puts second, and 3 rationales."""
  rng = np.random.default_rng(0)
  lengths = rng.integers(1, 5, (20, 2)), rng.integers(1, 5, (30, 2))
  made_mixtures.task('steps_a_rationales', lengths[0], more=more)
  made_mixtures.task('steps_b_labels', lengths[1], 5000)
  rated = [('steps_b_labels', 8.0), ('steps_a_rationales', 3.0)]
  layout = dataclasses.replace(MADE, **options)
  return steps.StepMixture('made', rated, step=layout), lengths


def tokens_of(mixture, count, **options):
  """Returns the first token of the first examples; 0 for a blank one."""
  read = mixture.get_dataset(**{'seed': 3, **options}).take(count)
  return [int(x['inputs'].sum()) and int(x['inputs'][0])
          for x in read.as_numpy_iterator()]  # fmt: skip


@pytest.mark.parametrize(('parts', 'units'), [(1, 11), (2, 6)])
def test_windows_are_the_steps_parts_of_each_tasks_order(parts, units):
  mixture, lengths = made_mixture()
  all_orders = [
    orders.Order(len(sizes), a / parts, (3, i), sizes, most)
    for i, (a, sizes, most) in enumerate(
      zip(MADE.per_task, lengths, MADE.most, strict=True)
    )
  ]
  for part in range(parts):
    expected = []
    for step in range(9):
      window = step * parts + part
      found = [
        first + int(example)
        for first, order in zip((1000, 5000), all_orders, strict=True)
        for example in order.window(window)
      ]
      expected += found + [0] * (units - len(found))
    info = seqio.ShardInfo(part, parts)
    assert tokens_of(mixture, 9 * units, shard_info=info) == expected
    read = mixture.get_dataset(seed=3, shard_info=info)
    assert steps.window_of(read.element_spec) == [units, 6 // parts]
    if parts == 1:
      assert tokens_of(mixture, 9 * units) == expected
  plain = tokens_of(mixture, 11, shuffle=False)
  assert plain == [*range(1000, 1003), *range(5000, 5008)]
  assert tokens_of(mixture, 11, shuffle=True) == tokens_of(mixture, 11)


def test_steps_have_32_bits_of_the_seed_and_without_one_a_new_one():
  mixture, _ = made_mixture()
  found = {
    seed: tokens_of(mixture, 33, seed=seed)
    for seed in (3, 3 + 2**32, 3 + 34, 3 + 64, 3 + 2**31, 4)
  }
  assert found.pop(3 + 2**32) == found[3]
  assert len({*map(tuple, found.values())}) == len(found)
  # As `step_rows` has tried them; without a seed no run reads the same.
  assert tokens_of(mixture, 33, seed=None) != tokens_of(mixture, 33, seed=None)


def test_what_is_drawn_is_another_for_each_part(monkeypatch):
  monkeypatch.setattr(cached_tasks, '_SMALL', 1)
  mixture, _ = made_mixture(
    [made_mixtures.with_drawn_targets], most=(None, None)
  )
  for part in (0, 1):
    info = seqio.ShardInfo(part, 2)
    read = mixture.get_dataset(seed=6, shard_info=info)
    found = [x['targets'] for x in read.take(24).as_numpy_iterator()
             if 1000 <= x['inputs'].max(initial=0) < 2000]  # fmt: skip
    order = orders.Order(20, 1.5, (6, 0))
    places = np.concatenate([order.window(2 * i + part) for i in range(4)])
    drawn = mixture.tasks[0].in_order(
      tf.data.Dataset.from_tensor_slices(places), 'train', None, 6 + part,
      {'inputs', 'targets'},
    )  # fmt: skip
    expected = [x['targets'] for x in drawn.as_numpy_iterator()]
    np.testing.assert_array_equal(found, expected)


def test_the_position_of_steps_survives_a_tf_checkpoint(tmp_path):
  mixture, _ = made_mixture()
  original, restored = (iter(mixture.get_dataset(seed=3)) for _ in range(2))
  for _ in range(15):
    next(original)
  path = tf.train.Checkpoint(it=original).write(str(tmp_path / 'position'))
  tf.train.Checkpoint(it=restored).read(path)
  for _ in range(20):
    want, got = next(original)['inputs'], next(restored)['inputs']
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
  ('labels', 'rows', 'parts'), [(8, 6, 4), (8, 9, 3), (8, 9, 5)]
)
def test_parts_divide_both_labels_and_rows(labels, rows, parts):
  mixture, _ = made_mixture(labels=labels, rows=rows)
  with pytest.raises(DataError, match=rf'{labels}, in {rows} rows, .* {parts}'):
    mixture.get_dataset(shard_info=seqio.ShardInfo(0, parts))


def test_a_layout_says_which_run_it_is_of_and_stays_as_it_is():
  assert MADE.identity == {
    'mixture_or_task': 'made', 'batch_size': '8 label examples'
  }  # fmt: skip
  # One is shared by all that ask for the same steps.
  with pytest.raises(dataclasses.FrozenInstanceError):
    MADE.rows = 1
  assert mixtures.names.step_name(MADE) == 'made_n8_0af2a794'
  assert mixtures.names.step_name(dataclasses.replace(MADE, rows=7)) != (
    mixtures.names.step_name(MADE)
  )


def test_segments_take_what_they_are_cut_to_and_nothing_without_targets():
  features = {
    'inputs': [9, 3, 2], 'targets': [4, 9, 0],
    'rationale_inputs': [5, 0, 1], 'rationale_targets': [1, 0, 6],
  }  # fmt: skip
  spec = dict.fromkeys(features, tf.TensorSpec([None], tf.int32))
  examples = [
    {name: [1] * lengths[i] for name, lengths in features.items()}
    for i in range(3)
  ]
  table = cached_tasks.Table(
    tf.data.Dataset.from_generator(lambda: examples, output_signature=spec)
  )
  found = steps.segments_of(table, set(features), (7, 5))
  assert found.tolist() == [
    [[7, 4], [5, 1]], [[3, 5], [0, 0]], [[0, 0], [1, 5]]
  ]  # fmt: skip


def test_features_are_not_passed_through_a_step():
  mixture, _ = made_mixture()
  spec = feature_converters.DistillFeatureConverter.FeatureSpec(dtype=tf.int32)
  converter = feature_converters.DistillFeatureConverter(
    pack=False, passthrough_features={'extra': spec}
  )
  read = mixture.get_dataset().map(lambda x: {**x, 'extra': x['inputs']})
  with pytest.raises(DataError, match=r"no passthrough_features .*'extra'"):
    converter(read, LENGTHS | {'extra': 3})
