"""Tests of the packaged sample: its files, its teacher, its vocabulary."""

import collections
import json
import os

import pytest
import sentencepiece
import seqio

from dss_jax import sample
from dss_jax.sample import cqa, files, nli, svamp, vocabulary, world

SPLITS = {'train': cqa.TRAIN_ROWS, 'test': cqa.TEST_ROWS}
CATEGORY_OF = {o: c for c in world.CATEGORIES for o in c.objects}


def _rows(split):
  path = os.path.join(sample.DATA_DIR, 'cqa', f'cqa_{split}.json')
  with open(path, encoding='utf-8') as f:
    return [json.loads(line) for line in f]


def _completions(split):
  texts = []
  for i in range(-(-SPLITS[split] // cqa.COMPLETIONS_PER_FILE)):
    name = f'{split}_CoT_{i}.json'
    path = os.path.join(sample.DATA_DIR, 'cqa', 'llm', name)
    with open(path, encoding='utf-8') as f:
      texts.extend(json.load(f))
  return texts


def _rationale_and_label(completion):
  """Reads a completion of the sample without the project's own parser."""
  first = completion.split('\n\nQ: ')[0]
  rationale, _, rest = first.partition(' So the answer is ')
  return rationale, rest[4:-1] if rest else ''


def _input(row, prefix=''):
  pairs = zip('abcde', row['choices'], strict=True)
  lines = [f'({x}) {c}' for x, c in pairs]
  return '\n'.join((prefix + row['question'], 'Answer Choices:', *lines))


@pytest.fixture(scope='module')
def processor():
  return sentencepiece.SentencePieceProcessor(model_file=sample.VOCABULARY_FILE)


@pytest.mark.parametrize(
  ('generator', 'data_sets'),
  [(cqa, ['cqa']), (svamp, ['svamp', 'asdiv']), (nli, ['esnli', 'anli1'])],
)
def test_the_generator_writes_the_files_that_are_shipped(generator, data_sets):
  made = generator.generate()
  shipped = {
    os.path.relpath(os.path.join(folder, name), sample.DATA_DIR)
    for data_set in data_sets
    for folder, _, names in os.walk(os.path.join(sample.DATA_DIR, data_set))
    for name in names
  }
  assert shipped == {os.path.normpath(p) for p in made}
  for path, text in made.items():
    with open(os.path.join(sample.DATA_DIR, path), 'rb') as f:
      assert f.read() == text.encode('utf-8'), path


def test_another_seed_gives_other_rows():
  a = cqa.generate(seed=1, train_rows=20, test_rows=5)
  b = cqa.generate(seed=2, train_rows=20, test_rows=5)
  assert a['cqa/cqa_train.json'] != b['cqa/cqa_train.json']
  for generator in (svamp, nli):
    assert generator.generate(1).keys() == generator.generate(2).keys()
    assert set(generator.generate(1).values()).isdisjoint(
      generator.generate(2).values()
    )


def test_write_makes_the_published_layout(tmp_path):
  files.write(cqa.generate(train_rows=1001, test_rows=5), str(tmp_path))
  names = [f'{s}_CoT_{i}.json' for s, i in (('test', 0), ('train', 0))]
  names.append('train_CoT_1.json')
  assert sorted(os.listdir(tmp_path / 'cqa' / 'llm')) == names
  last = (tmp_path / 'cqa' / 'llm' / 'train_CoT_1.json').read_text()
  assert len(json.loads(last)) == 1


@pytest.mark.parametrize('split', SPLITS)
def test_rows_have_the_published_fields_and_five_different_choices(split):
  rows = _rows(split)
  assert len(rows) == SPLITS[split] == len(_completions(split))
  assert len({r['id'] for r in rows}) == len(rows)
  for row in rows:
    assert set(row) == {
      'id',
      'question',
      'choices',
      'answer',
      'abstractive_explanation',
      'extractive_explanation',
    }
    assert len(set(row['choices'])) == 5
    assert row['answer'] in row['choices']
    assert row['extractive_explanation'] in row['question']


def test_no_test_question_comes_in_train():
  keys = [
    {(r['question'], frozenset(r['choices'])) for r in _rows(split)}
    for split in SPLITS
  ]
  assert [len(k) for k in keys] == list(SPLITS.values())
  assert not keys[0] & keys[1]


@pytest.mark.parametrize('split', SPLITS)
def test_right_answers_are_spread_evenly_over_the_choices(split):
  rows = _rows(split)
  counts = collections.Counter(r['choices'].index(r['answer']) for r in rows)
  assert counts == dict.fromkeys(range(5), len(rows) // 5)


@pytest.mark.parametrize('split', SPLITS)
def test_the_fact_holds_for_the_answer_alone_or_for_all_others(split):
  facts = {f.cue: f for f in world.FACTS}
  assert len(facts) == len(world.FACTS)
  families = set()
  for row in _rows(split):
    fact = facts[row['extractive_explanation']]
    holds = [CATEGORY_OF[c].name == fact.category for c in row['choices']]
    negated = ' not ' in row['question']
    right = row['choices'].index(row['answer'])
    assert holds == [(i == right) != negated for i in range(5)]
    assert not {CATEGORY_OF[c].name for c in row['choices']} & set(fact.avoid)
    if not negated:
      assert len({CATEGORY_OF[c] for c in row['choices']}) == 5
    families.add(world.NOT if negated else fact.family)
  assert families == set(world.FAMILIES)


@pytest.mark.parametrize('split', SPLITS)
def test_about_a_quarter_of_the_teacher_labels_is_wrong(split):
  pairs = zip(_rows(split), _completions(split), strict=True)
  labels = [(r, _rationale_and_label(c)[1]) for r, c in pairs]
  right = sum(r['answer'] == label for r, label in labels) / len(labels)
  assert 0.70 <= right <= 0.78
  blank = sum(not label for _, label in labels) / len(labels)
  assert 0.005 <= blank <= 0.06
  assert all(not label or label in r['choices'] for r, label in labels)


@pytest.mark.parametrize('split', SPLITS)
def test_about_nine_in_ten_rationales_say_only_what_is_true(split):
  nouns = {c.name: c.noun for c in world.CATEGORIES}
  noun_of = {f.cue: nouns[f.category] for f in world.FACTS}
  true = 0
  for row, text in zip(_rows(split), _completions(split), strict=True):
    rationale = _rationale_and_label(text)[0]
    statement, listing = rationale.split('. ')
    cue = row['extractive_explanation']
    claims = [statement.lower().startswith(f'{noun_of[cue]} ')]
    for choice in row['choices']:
      noun = CATEGORY_OF[choice].noun
      tail = listing.lower().partition(f'the {choice} ')[2]
      assert tail, (choice, listing)
      claims.append(tail.removeprefix('is ').startswith(noun))
    true += all(claims)
  assert 0.88 <= true / SPLITS[split] <= 0.95


def test_most_completions_run_on_into_another_question():
  texts = [t for split in SPLITS for t in _completions(split)]
  run_on = sum('\n\nQ: ' in t for t in texts) / len(texts)
  assert 0.9 < run_on < 1.0


def test_the_vocabulary_can_be_trained_again(processor):
  again = sentencepiece.SentencePieceProcessor(
    model_proto=vocabulary.train(sample.DATA_DIR)
  )
  size = processor.get_piece_size()
  assert size == again.get_piece_size() == vocabulary.VOCABULARY_SIZE
  for i in range(size):
    assert processor.id_to_piece(i) == again.id_to_piece(i)
    assert processor.get_score(i) == pytest.approx(again.get_score(i))


def test_the_vocabulary_has_the_identifiers_of_t5():
  vocab = seqio.SentencePieceVocabulary(sample.VOCABULARY_FILE)
  assert (vocab.pad_id, vocab.eos_id, vocab.unk_id) == (0, 1, 2)
  assert vocab.vocab_size == vocabulary.VOCABULARY_SIZE


def test_labels_are_one_piece_and_survive_encoding():
  vocab = seqio.SentencePieceVocabulary(sample.VOCABULARY_FILE)
  for label in CATEGORY_OF:
    assert len(vocab.encode(label)) == 1
    assert vocab.decode(vocab.encode(label)) == label


@pytest.mark.parametrize('split', SPLITS)
def test_words_of_the_sample_are_whole(split, processor):
  texts = [_input(r, 'explain: ') for r in _rows(split)]
  texts += [_rationale_and_label(c)[0] for c in _completions(split)]
  words = {w.strip('.,:?') for t in texts for w in t.split()}
  assert {w for w in words if len(processor.encode(w)) > 1} == set()
  assert max(len(processor.encode(t)) for t in texts) <= 45


def test_rationales_survive_encoding(processor):
  for text in _completions('test'):
    rationale = _rationale_and_label(text)[0]
    assert processor.decode(processor.encode(rationale)) == rationale


def test_a_newline_is_read_as_a_space(processor):
  text = _input(_rows('train')[0])
  assert processor.encode(text) == processor.encode(text.replace('\n', ' '))


@pytest.mark.parametrize('text', ['A kangaroo jumps.', 'über ☃', '17 + 4 = 21'])
def test_other_text_is_not_unknown(text, processor):
  ids = processor.encode(text)
  assert processor.unk_id() not in ids
  assert processor.decode(ids) == text
