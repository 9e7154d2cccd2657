"""Model cards: the README.md of an exported folder.

Its head is YAML, as model hubs read it: library, task, tags, base model and
scores. It names no license and no language, which nothing here knows. The rest
says what the student is, how to ask it, and how good it was. Names of labels,
teachers, files and folders are foreign texts: they are shown as they are, and
are neither Markdown nor HTML nor YAML.
"""

import dataclasses
import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from dss_jax import command_lines, neutral
from dss_jax.export import measured
from dss_jax.pipeline import kinds as kinds_lib
from dss_jax.pipeline import methods

# What Markdown or HTML may take for its own.
_MARKDOWN = re.compile(r'([\\`*_{}\[\]()<>#+\-.!|~&:@$^=])')
_PLACEHOLDER = 'Write your question here.'
# Classes that a card lists.
_MOST_CLASSES = 30
_METHODS = {
  'dss': 'distilling step-by-step: labels, and the reasons of a teacher',
  'finetune': 'finetuning on labels',
  'single_task': 'a reason and a label in one answer',
}
_SCORES = {
  'accuracy': 'label accuracy',
  'agreement': 'agreement with the teacher',
  'bleu': "rationales against the teacher's, BLEU",
  'rouge_l': "rationales against the teacher's, ROUGE-L",
}
_HUB_METRICS = {'agreement': 'accuracy', 'rouge_l': 'rouge'}
# Families of first weights: the part of a checkpoint's path to a hub's name.
_BASES = (
  (r'/t5_1_1_(small|base|large|xl|xxl)/', 'google/t5-v1_1-{}'),
  (r'/flan_t5_(small|base|large|xl|xxl)/', 'google/flan-t5-{}'),
  (r'/t5_(small|base|large|3B|11B)/', 'google-t5/t5-{}'),
)


@dataclasses.dataclass(frozen=True)
class Facts:
  """What a card is made of.

  Attributes:
    folder: of the exported student, as the user names it.
    step: of the checkpoint.
    parameters: how many the student has.
    tied: whether the logits use the embedding; as in T5 1.0, not in T5 1.1.
    version: of this package.
    macros: of the run's configuration: DATA_SET, DATA, METHOD, LABELS, TEACHER,
      FRACTION, INITIAL_CHECKPOINT_PATH, as far as it has them.
    measured: what the run's folder says.
    method: of the model; None where it is none of this package's.
    adapts: the model that adapters are for, as transformers finds it; None for
      a whole student.
    base_type: in which its weights were while they were trained.
    kinds: of rationales, as the model has them.
  """

  folder: str
  step: int | None
  parameters: int
  tied: bool
  version: str
  macros: Mapping[str, Any]
  measured: measured.Measured
  method: str | None
  adapts: str | None = None
  base_type: str = 'float32'
  kinds: tuple[kinds_lib.Kind, ...] = kinds_lib.ONE


def text(facts: Facts) -> str:
  """Returns the text of the card.

  Args:
    facts: what it says.
  """
  sections = (_head(facts), _origin(facts), _usage(facts), _results(facts),
              _data(facts), _sharing(facts))  # fmt: skip
  return '\n\n'.join(filter(None, sections)) + '\n'


def plain(value: object) -> str:
  r"""Returns a foreign text as Markdown that shows it and nothing else.

  >>> plain('a_b <i> [x](y)')
  'a\\_b \\<i\\> \\[x\\]\\(y\\)'

  Args:
    value: what is shown, by its `str`.
  """
  return _MARKDOWN.sub(r'\\\1', neutral.line(value, 200))


def _scalar(value: object) -> str:
  """Returns a foreign text as YAML: JSON's quotes are YAML's, too."""
  return json.dumps(neutral.line(value, 200), ensure_ascii=False)


def name(folder: str) -> str:
  """Returns a student's name: that of its folder.

  Args:
    folder: its path.
  """
  return os.path.basename(os.path.abspath(folder)) or 'student'


def base_model(path: object) -> str | None:
  """Returns a hub's name for first weights; None where it is not certain.

  >>> base_model('gs://t5-data/pretrained_models/t5x/flan_t5_base/checkpoint_1')
  'google/flan-t5-base'

  Args:
    path: INITIAL_CHECKPOINT_PATH.
  """
  # Only where the published weights are known to lie.
  if not str(path).startswith('gs://t5-data/pretrained_models/t5x/'):
    return None
  for pattern, form in _BASES:
    if found := re.search(pattern, str(path)):
      return form.format(found[1].lower())
  return None


def _data_name(facts: Facts) -> str:
  """Returns what the data is called, without a path of somebody's machine."""
  data_set = facts.macros.get('DATA_SET')
  if data_set is None:
    return 'its rows'
  if data_set == 'custom':
    return 'rows of its own'
  is_sample = facts.macros.get('DATA') == 'sample'
  return f'{data_set}{", the packaged sample" * is_sample}'


def _head(facts: Facts) -> str:
  lines = [
    '---',
    f'library_name: {"peft" if facts.adapts else "transformers"}',
    'pipeline_tag: text2text-generation',
    'tags:',
    '- t5',
    '- dss-jax',
    *(['- distilling-step-by-step'] if facts.method == 'dss' else []),
    *(['- lora'] if facts.adapts else []),
  ]
  base = facts.adapts or base_model(facts.macros.get('INITIAL_CHECKPOINT_PATH'))
  if base:
    lines.append(f'base_model: {_scalar(base) if facts.adapts else base}')
  lines += _index(facts)
  return '\n'.join([*lines, '---'])


def _index(facts: Facts) -> Iterator[str]:
  """Yields the lines of the head's `model-index`."""
  scores = facts.measured.scores
  if not scores:
    return
  yield 'model-index:'
  yield f'- name: {_scalar(name(facts.folder))}'
  yield '  results:'
  for split in dict.fromkeys(score.split for score in scores):
    yield '  - task:'
    yield '      type: text2text-generation'
    yield '    dataset:'
    yield f'      name: {_scalar(_data_name(facts))}'
    yield f'      type: {_scalar(facts.macros.get("DATA_SET") or "custom")}'
    yield f'      split: {split}'
    yield '    metrics:'
    for score in scores:
      if score.split == split:
        yield f'    - type: {_HUB_METRICS.get(score.name, score.name)}'
        yield f'      name: {_scalar(_title(facts, score))}'
        yield f'      value: {score.value:.2f}'


def _title(facts: Facts, score: measured.Score) -> str:
  """Returns what a score is called; of several kinds, with its own."""
  title = _SCORES[score.name]
  if len(facts.kinds) > 1 and 1 <= score.kind <= len(facts.kinds):
    title += f' ({facts.kinds[score.kind - 1].name})'
  return title


def _origin(facts: Facts) -> str:
  macros = facts.macros
  lines = [f'# {plain(name(facts.folder))}', '']
  method = _METHODS.get(facts.method or '', '')
  trained = f' by {method}' if method else ''
  what = f'A T5 of {facts.parameters:,} parameters'
  if facts.adapts:
    what = (
      f'Low-rank adapters (LoRA) of {facts.parameters:,} parameters for'
      f' {plain(facts.adapts)}'
    )
  lines.append(
    f'{what}, trained with dss-jax'
    f' {facts.version} on {plain(_data_name(facts))}{trained}.'
  )
  if facts.method and macros.get('TEACHER') is not None:
    lines += _teachers(facts)
  return '\n'.join(lines)


def _teachers(facts: Facts) -> Iterator[str]:
  """Yields a sentence for each source of labels and reasons."""
  whose: dict[tuple[str, ...], list[str]] = {}
  teacher = str(facts.macros['TEACHER'])
  if _taught(facts):
    whose[(teacher,)] = ['labels']
  if facts.method != 'finetune':
    named = dict.fromkeys(kind.teacher or teacher for kind in _learned(facts))
    whose.setdefault(tuple(named), []).append('reasons')
  for names, what in whose.items():
    # Own rows have no name for theirs.
    of_rows = facts.macros.get('DATA_SET') == 'custom' and names == ('teacher',)
    teachers = 'teachers' if len(names) > 1 else 'teacher'
    of = 'rows' if of_rows else f'{teachers} {" and ".join(map(plain, names))}'
    yield f'{" and ".join(what).capitalize()} are those of the {of}.'


def _learned(facts: Facts) -> list[kinds_lib.Kind]:
  """Returns the kinds that were trained on: those that weigh something."""
  return [kind for kind in facts.kinds if kind.weight]


def _taught(facts: Facts) -> bool:
  """Whether the labels that were trained on are the teacher's."""
  return facts.macros.get('LABELS') == 'teacher'


def _usage(facts: Facts) -> str:
  prefix, how = '', 'It answers with a label.'
  if facts.method == 'dss':
    prefix = methods.LABEL_PREFIX
    how = _prefixes(facts)
  elif facts.method == 'single_task':
    how = f'It gives a reason, `{methods.ANSWER_PHRASE}` and the label.'
  elif facts.method is None:
    how = 'It answers as it was trained to.'
  asked = f'{prefix!r} + question' if prefix else 'question'
  # Without a generation_config.json, transformers stops after 20 tokens.
  length = ', max_new_tokens=256' if facts.adapts else ''
  quiet = []
  if not facts.tied:
    # Its T5 takes all heads for tied until it has seen the weights.
    quiet = [
      '# transformers 5 warns that the head of a T5 1.1 is not tied; so it is.',
      'logging.set_verbosity_error()',
    ]
  parts = [
    'AutoModelForSeq2SeqLM',
    'AutoTokenizer',
    *(['logging'] * bool(quiet)),
  ]
  lines = [
    '## How to ask it',
    '',
    how,
    '',
    '```python',
    *(['from peft import PeftModel'] if facts.adapts else []),
    f'from transformers import {", ".join(parts)}',
    '',
    *quiet,
    f'folder = {facts.folder!r}  # Or the name of an uploaded copy.',
    'tokenizer = AutoTokenizer.from_pretrained(folder)',
    *_loading(facts),
    f'question = {_PLACEHOLDER!r}',
    f"inputs = tokenizer({asked}, return_tensors='pt')",
    f'answer = model.generate(**inputs{length})[0]',
    'print(tokenizer.decode(answer, skip_special_tokens=True))',
    '```',
  ]
  classes = facts.measured.classes
  if classes:
    shown = ', '.join(plain(label) for label in classes[:_MOST_CLASSES])
    more = ', …' if len(classes) > _MOST_CLASSES else ''
    lines += ['', f'Its labels: {shown}{more}.']
  return '\n'.join(lines)


def _prefixes(facts: Facts) -> str:
  """Returns what to write before a question for which answer."""
  learned = _learned(facts)
  several = len(facts.kinds) > 1
  reasons = [
    f'{_code(kind.prefix)} for'
    f' {f"a reason, {plain(kind.name)}" if several else "the reason"}'
    for kind in learned
  ]
  asked = f'{_code(methods.LABEL_PREFIX)} before a question asks for its label'
  return f'{", ".join([asked, *reasons[:-1]])}, and {reasons[-1]}.'


def _code(prefix: str) -> str:
  r"""Returns a prefix as code in a line of Markdown.

  >>> _code('say `why`: ')
  '`` say `why`:  ``'

  Args:
    prefix: what a run's author chose; where it has characters that cannot be
      seen, it is written as in Python.
  """
  shown = prefix if prefix.isprintable() else repr(prefix)
  if '`' not in shown and not shown[0] == shown[-1] == ' ':
    return f'`{shown}`'
  # Longer than all that are in it, and apart from them.
  fence = '`' * (1 + max(map(len, re.findall('`*', shown))))
  return f'{fence} {shown} {fence}'


def _loading(facts: Facts) -> Iterator[str]:
  """Yields the lines of the example that load the model."""
  if facts.adapts is None:
    yield 'model = AutoModelForSeq2SeqLM.from_pretrained(folder)'
    return
  yield f'model = AutoModelForSeq2SeqLM.from_pretrained({facts.adapts!r})'
  if facts.base_type == 'bfloat16':
    yield '# The adapters were trained on matrices in bfloat16.'
    yield 'for weight in model.parameters():'
    yield '    if weight.dim() > 1:'
    yield '        weight.data = weight.data.bfloat16().float()'
  yield 'model = PeftModel.from_pretrained(model, folder)'


def _results(facts: Facts) -> str:
  scores = facts.measured.scores
  lines = ['## How good it was', '']
  if not scores:
    return '\n'.join([*lines, 'It was not evaluated at this step.'])
  at = '' if facts.step is None else f'After {facts.step:,} steps'
  lines += [
    f'{at}, on rows that it was not trained on:',
    '',
    '| split | score | % | 95% interval | examples |',
    '| -- | -- | --: | -- | --: |',
  ]
  for score in scores:
    ends = ''
    if score.interval:
      ends = ' to '.join(f'{end:.1f}' for end in score.interval)
    count = '' if score.examples is None else f'{score.examples:,}'
    lines.append(
      f'| {score.split} | {plain(_title(facts, score))} | {score.value:.1f} |'
      f' {ends} | {count} |'
    )
  if any(score.name == 'agreement' for score in scores):
    lines += [
      '',
      'Agreement is with the labels of the teacher, which errs: it is no'
      ' accuracy.',
    ]
  return '\n'.join(lines)


def _data(facts: Facts) -> str:
  lines = ['## What it was trained on', '']
  found = facts.measured.examples
  for task, count in found.items():
    lines.append(f'- {count:,} examples of {plain(task)}')
  fraction = facts.macros.get('FRACTION')
  if isinstance(fraction, float) and fraction != 1.0:
    lines.append(f'- a part of {fraction:g} of the training rows')
  if facts.macros.get('LABELS') is not None:
    whose = "the teacher's" if _taught(facts) else 'gold'
    lines.append(f'- labels: {whose}')
  return '\n'.join(lines) if len(lines) > 2 else ''


def _sharing(facts: Facts) -> str:
  return '\n'.join([
    '## Sharing it',
    '',
    'What it may be used for depends on the licenses of its first weights, its'
    ' data and its teacher: add `license:` to the head of this file. Then, in'
    ' this folder:',
    '',
    '```sh',
    command_lines.typed(upload(facts.folder, '.'), one_line=True),
    '```',
  ])  # fmt: skip


def upload(folder: str, place: str = '') -> list[str]:
  """Returns the command that uploads a student, for its owner to see first.

  Args:
    folder: of the student.
    place: what the folder is called where the command is typed; '' as `folder`.
  """
  # A hub's names have fewer characters than folders'.
  there = re.sub('[^A-Za-z0-9._-]+|-{2,}|[.]{2,}', '-', name(folder)).strip(
    '.-'
  )
  return ['hf', 'upload', there or 'student', place or folder, '.', '--private']
