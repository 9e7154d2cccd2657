"""Prompt files: the packaged ones, and the user's own.

A prompt file is YAML or JSON:

    instruction: Answer the question, reasoning first.
    question: "Q: {input}"
    answer: "A: {rationale} So the answer is {label}."
    exemplars:
      - input: Is ice cold?
        rationale: Ice is frozen water, which is cold.
        label: "yes"

`question` shows an input; an input of two texts (`</s>` between them) is shown
by `{premise}` and `{hypothesis}`. `answer` is the answer format, which also
says how a reply is read. `stop` may list stop sequences; without it, a reply
stops at a blank line followed by the beginning of the next question. A file
that `drafts` began must be completed.
"""

from collections.abc import Mapping
from typing import Any

from etils import epath

from dss_jax import errors, neutral
from dss_jax.data import text_files
from dss_jax.extract import prompts

# The file with the prompt of each data set.
FILES = {
  'anli1': 'anli1.yaml',
  'asdiv': 'svamp.yaml',
  'cqa': 'cqa.yaml',
  'esnli': 'esnli.yaml',
  'svamp': 'svamp.yaml',
}
_KEYS = ('instruction', 'question', 'answer', 'exemplars', 'stop')
_EXEMPLAR_KEYS = ('input', 'rationale', 'label')
# What a draft has where something is to be written.
TO_EDIT = '<<WRITE: '


def packaged(data_set: str) -> prompts.Prompt:
  """Returns the packaged prompt of a data set in the published layout.

  Raises:
    DataError: there is none.
  """
  if data_set not in FILES:
    raise errors.DataError(
      f'There is no prompt for the data set {data_set!r}: expected one of'
      f' {", ".join(FILES)}, or --prompt with a file of your own.'
      f'{errors.did_you_mean(data_set, FILES)}'
    )
  place = epath.Path(__file__).parent / 'exemplars' / FILES[data_set]
  return load(str(place), data_set)


def load(path: str, data_set: str | None = None) -> prompts.Prompt:
  """Reads a prompt file.

  Args:
    path: of the file, YAML or JSON.
    data_set: one in the published layout, whose rule the answers must follow;
      None for the user's own rows.

  Raises:
    DataError: the file cannot be read, lacks a field or has an unknown one, or
      its exemplars cannot be read back with its own answer format.
  """
  document = _document(path)
  _check_keys(path, document, _KEYS, ('question', 'answer', 'exemplars'))
  texts = {
    key: _text(path, key, document.get(key, ''))
    for key in ('instruction', 'question', 'answer')
  }
  _check_templates(path, texts['question'], texts['answer'])
  exemplars = _exemplars(path, document['exemplars'])
  beginning = prompts.FIELD.split(texts['question'])[0].strip()
  stop = document.get('stop', [f'\n\n{beginning}'] if beginning else [])
  if not isinstance(stop, list) or not all(
    isinstance(text, str) and text for text in stop
  ):
    raise errors.DataError(
      f'{path}: expected stop to be a list of texts, found {stop!r:.60}.'
      ' Correct it.'
    )
  prompt = prompts.Prompt(
    texts['instruction'],
    texts['question'],
    texts['answer'],
    exemplars,
    tuple(stop),
    data_set,
  )
  _check_exemplars(path, prompt)
  return prompt


def _document(path: str) -> dict[str, Any]:
  document = text_files.read_yaml(path, 'a prompt file', as_texts=True)
  if not isinstance(document, dict):
    raise errors.DataError(
      f'{path}: expected the fields {", ".join(_KEYS)}, found a'
      f' {type(document).__name__}. Write them as `name: value`.'
    )
  return document


def _check_keys(
  place: str,
  found: Mapping[str, Any],
  known: tuple[str, ...],
  needed: tuple[str, ...],
) -> None:
  for key in found:
    if key not in known:
      raise errors.DataError(
        f'{place}: found the field {key!r}, expected only'
        f' {", ".join(known)}.{errors.did_you_mean(key, known)}'
      )
  for key in needed:
    if key not in found:
      raise errors.DataError(
        f'{place}: expected the field {key!r}, found only'
        f' {", ".join(found) or "none"}. Add it.'
      )


def _text(place: str, key: str, value: Any, needed: bool = False) -> str:
  if not isinstance(value, str) or (needed and not value.strip()):
    raise errors.DataError(
      f'{place}: expected {key!r} to be a text, found {value!r:.60}. Write one.'
    )
  # An input may hold anything.
  if key != 'input' and TO_EDIT in value:
    mark = neutral.line(value[value.index(TO_EDIT) :], 60)
    raise errors.DataError(
      f'{place}: {key!r} still has {mark!r}: expected what the mark asks for,'
      ' without the mark. Edit the file.'
    )
  return value.strip()


def _check_templates(path: str, question: str, answer: str) -> None:
  names = [match[1] for match in prompts.FIELD.finditer(question)]
  if sorted(names) not in (['input'], ['hypothesis', 'premise']):
    raise errors.DataError(
      f'{path}: expected question to hold {{input}} once, or {{premise}} and'
      f' {{hypothesis}}, found {question!r:.60}. Correct it.'
    )
  names = [match[1] for match in prompts.FIELD.finditer(answer)]
  between = answer.partition('{rationale}')[2].partition('{label}')[0]
  if names != ['rationale', 'label'] or not between.strip():
    raise errors.DataError(
      f'{path}: expected answer to hold {{rationale}}, words, and then'
      f' {{label}}, such as "{{rationale}} So the answer is {{label}}.", found'
      f' {answer!r:.60}. Correct it.'
    )


def _exemplars(path: str, found: Any) -> tuple[prompts.Exemplar, ...]:
  if not isinstance(found, list) or not found:
    raise errors.DataError(
      f'{path}: expected exemplars to be a list of at least one, found'
      f' {found!r:.60}. Write them as `- input: …`.'
    )
  result = []
  for number, row in enumerate(found, 1):
    place = f'{path}, exemplar {number}'
    if not isinstance(row, dict):
      raise errors.DataError(
        f'{place}: expected {", ".join(_EXEMPLAR_KEYS)}, found {row!r:.60}.'
      )
    _check_keys(place, row, _EXEMPLAR_KEYS, _EXEMPLAR_KEYS)
    texts = {key: _text(place, key, row[key], True) for key in _EXEMPLAR_KEYS}
    result.append(prompts.Exemplar(**texts))
  return tuple(result)


def _check_exemplars(path: str, prompt: prompts.Prompt) -> None:
  """Checks that the exemplars' answers can be read back."""
  for number, exemplar in enumerate(prompt.exemplars, 1):
    place = f'{path}, exemplar {number}'
    try:
      messages = prompt.messages(exemplar.input)
    except errors.DataError as error:
      raise errors.DataError(f'{place}: {error}') from None
    answer = messages[2 * number - (not prompt.instruction)]['content']
    parsed = prompt.parse(prompt.reply(answer))
    is_whole = parsed.label and exemplar.label.endswith(parsed.label)
    if parsed.rationale != exemplar.rationale or not is_whole:
      rule = f'the rule of {prompt.data_set}' if prompt.data_set else 'answer'
      raise errors.DataError(
        f'{place}: expected a rationale and a label that {rule} finds again in'
        f' {answer!r:.120}, found {parsed.rationale!r:.60} and'
        f' {parsed.label!r:.60}. Correct the exemplar or the answer format.'
      )
