"""Prompts of a teacher: instruction, exemplars, and how a reply is read.

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
stops at a blank line followed by the beginning of the next question.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from etils import epath

from dss_jax import errors
from dss_jax.data import completions, row_formats
from dss_jax.extract.replies import answers, structured, thoughts
from t5x import neutral

ENDPOINTS = ('chat', 'completion')
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
_FIELD = re.compile(r'\{(input|premise|hypothesis|rationale|label)\}')
# How the label of a published data set is read; the others have classes.
_LABELS = {
  'asdiv': answers.equation,
  'cqa': answers.option,
  'svamp': answers.equation,
}
# The prompt of a request: a text, or the messages of a chat.
RenderedPrompt = str | list[dict[str, str]]


@dataclasses.dataclass(frozen=True)
class Exemplar:
  """Worked answer that is shown before the question."""

  input: str
  rationale: str
  label: str


def _fill(template: str, values: Mapping[str, str]) -> str:
  """Fills a template in; braces within values stay as they are."""
  return _FIELD.sub(lambda match: values.get(match[1], match[0]), template)


def _question(template: str, text: str) -> str:
  """Returns a question that shows an input."""
  values = {'input': text}
  if '{premise}' in template:
    premise, separator, hypothesis = text.partition(row_formats.NLI_SEPARATOR)
    if not separator:
      raise errors.DataError(
        'expected an input of two texts with'
        f" {row_formats.NLI_SEPARATOR} between them, as the prompt's question"
        f' shows a premise and a hypothesis, found {text[:60]!r}. Correct the'
        ' input or the question.'
      )
    values |= {'premise': premise.strip(), 'hypothesis': hypothesis.strip()}
  return _fill(template, values)


@dataclasses.dataclass(frozen=True)
class Prompt:
  """Prompt of a data set, and the format of its replies.

  Attributes:
    instruction: the text before everything else; may be blank.
    question: the template that shows an input.
    answer: the template of a reply: a rationale and a label.
    exemplars: worked answers.
    stop: sequences at which a reply ends.
    data_set: the data set whose published rule reads a reply; None to read it
      by `answer`.
    json_format: the format of replies in JSON, in place of both; None for text.
  """

  instruction: str
  question: str
  answer: str
  exemplars: tuple[Exemplar, ...]
  stop: tuple[str, ...]
  data_set: str | None = None
  json_format: structured.Format | None = None

  @property
  def tags(self) -> str:
    """The text whose tags, if it has any, are no thoughts' in replies."""
    return self.answer if self.json_format is None else ''

  @property
  def head(self) -> str:
    """The beginning of an answer, before its rationale."""
    return self.answer.partition('{rationale}')[0]

  def _answered(self, exemplar: Exemplar) -> str:
    values = {'rationale': exemplar.rationale, 'label': exemplar.label}
    return _fill(self.answer, values)

  def render(self, text: str, endpoint: str) -> RenderedPrompt:
    """Returns the prompt of a request.

    Args:
      text: the input.
      endpoint: 'completion' for one text that ends where the answer begins,
        'chat' for messages in which exemplars are earlier turns.

    Raises:
      DataError: the question shows two texts, and the input is one.
    """
    if endpoint == 'completion':
      turns = [
        f'{_question(self.question, e.input)}\n{self._answered(e)}'
        for e in self.exemplars
      ]
      last = f'{_question(self.question, text)}\n{self.head}'.rstrip()
      parts = [self.instruction, *turns, last]
      return '\n\n'.join(parts if self.instruction else parts[1:])
    return self.messages(text)

  def messages(self, text: str) -> list[dict[str, str]]:
    """Returns the messages of a chat, in which exemplars are earlier turns.

    Args:
      text: the input.

    Raises:
      DataError: the question shows two texts, and the input is one.
    """
    messages = []
    if self.instruction:
      messages.append({'role': 'system', 'content': self.instruction})
    for exemplar in self.exemplars:
      question = _question(self.question, exemplar.input)
      if self.json_format is None:
        answer = self._answered(exemplar)[len(self.head) :]
      else:
        answer = self.json_format.written(exemplar.rationale, exemplar.label)
      messages.append({'role': 'user', 'content': question})
      messages.append({'role': 'assistant', 'content': answer})
    messages.append({'role': 'user', 'content': _question(self.question, text)})
    return messages

  def split(self, text: str, opened: bool = False) -> thoughts.Reply:
    """Splits a reply into thoughts and answer.

    Args:
      text: a reply as it came.
      opened: see `reply`.
    """
    if self.json_format is not None:
      return self.json_format.split(text, opened)
    return thoughts.split(text, self.answer, opened)

  def reply(self, text: str, opened: bool = False) -> str:
    """Returns a reply without thoughts and without an echoed head.

    Args:
      text: a reply as it came.
      opened: whether the model's chat template opens thoughts, so that a reply
        begins in them.
    """
    text = self.split(text, opened).answer
    if self.json_format is not None:
      return text
    if not any(e.rationale.startswith('`') for e in self.exemplars):
      text = answers.unfenced(text)
    return answers.without_head(text, self.head.strip())

  def parse(self, reply: str, cut: bool = False) -> completions.Parsed:
    """Splits a reply into rationale and label, '' for one that is not found.

    Args:
      reply: from `reply`.
      cut: whether it ended before the model was done. Then it may be all
        thoughts, and has a rationale only if its label is whole.
    """
    if self.json_format is not None:
      # An object that ends is whole.
      return self.json_format.parse(reply)
    parsed = self._parse(reply)
    both = f'{parsed.rationale} {parsed.label}'
    if thoughts.has_tag(both, self.answer):
      return completions.Parsed('', '')
    if cut and not (parsed.label and self._is_whole(reply, parsed.label)):
      return completions.Parsed('', '')
    return parsed

  def _is_whole(self, reply: str, label: str) -> bool:
    """Returns whether a reply that was cut goes on behind its label."""
    phrase, tail = self._around_label
    ends = answers.ends_line(reply, phrase, tail)
    return ends and not re.search(r'[?!.]\s', label)

  @property
  def _around_label(self) -> tuple[str, str]:
    """The words between rationale and label, and those behind the label."""
    if self.data_set is not None:
      return completions.rule(self.data_set).phrase, '.'
    _, _, rest = self.answer.partition('{rationale}')
    phrase, _, tail = rest.partition('{label}')
    return phrase.strip(), tail.strip()

  @property
  def _is_plain(self) -> bool:
    """Whether the exemplars have no marks around their parts."""
    return not any(
      text.startswith(answers.MARKS)
      for exemplar in self.exemplars
      for text in (exemplar.rationale, exemplar.label)
    )

  def _parse(self, reply: str) -> completions.Parsed:
    if self.data_set is not None:
      rule = completions.rule(self.data_set)
      label = _LABELS.get(self.data_set, answers.nli_class)
      # A premise may be spoken of; a next question begins with its colon.
      stop = rule.stop.rstrip(':') + ':'
      found = answers.read(reply, rule.phrase, stop, label)
      if found is None and rule.open_rationale:
        whole = answers.before_next_question(reply, stop)
        return completions.Parsed(answers.rationale(whole), '')
      return found or completions.Parsed('', '')
    stop = _FIELD.split(self.question)[0].strip()
    (phrase, tail), is_plain = self._around_label, self._is_plain

    def label_of(line: str) -> str:
      if is_plain:
        return answers.bare(line, tail)
      return line.rstrip().removesuffix(tail).rstrip()

    found = answers.read(reply, phrase, stop, label_of, is_plain)
    return found or completions.Parsed('', '')


def fingerprint(prompt: RenderedPrompt) -> int:
  """Returns a hash of 64 bits."""
  text = json.dumps(prompt, ensure_ascii=False)
  digest = hashlib.sha256(text.encode('utf-8', 'surrogatepass')).digest()
  return int.from_bytes(digest[:8], 'big')


def length(prompt: RenderedPrompt) -> int:
  """Returns the number of characters."""
  if isinstance(prompt, str):
    return len(prompt)
  return sum(len(message['content']) for message in prompt)


def readable(prompt: RenderedPrompt) -> str:
  """Returns a prompt as a person reads it."""
  if isinstance(prompt, str):
    return prompt
  return '\n'.join(f'[{m["role"]}]\n{m["content"]}' for m in prompt)


def as_json(prompt: Prompt, replies: structured.Format) -> Prompt:
  """Returns a prompt that asks for replies in JSON.

  Args:
    prompt: one that asks for text.
    replies: the format of the replies.

  Raises:
    DataError: an exemplar has no such reply.
  """
  for number, exemplar in enumerate(prompt.exemplars, 1):
    found = replies.parse(replies.written(exemplar.rationale, exemplar.label))
    if not (found.rationale and found.label):
      raise errors.DataError(
        f'--structured: exemplar {number}: expected a rationale and a label'
        f' that are read back from JSON, found the label'
        f' {neutral.line(exemplar.label, 60)!r}'
        + (
          f', with --class {neutral.names(replies.classes)}'
          if replies.classes
          else ''
        )
        + '. Correct the exemplar or the classes.'
      )
  return dataclasses.replace(prompt, json_format=replies)


# Reading a prompt file.


def packaged(data_set: str) -> Prompt:
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


def load(path: str, data_set: str | None = None) -> Prompt:
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
  beginning = _FIELD.split(texts['question'])[0].strip()
  stop = document.get('stop', [f'\n\n{beginning}'] if beginning else [])
  if not isinstance(stop, list) or not all(
    isinstance(text, str) and text for text in stop
  ):
    raise errors.DataError(
      f'{path}: expected stop to be a list of texts, found {stop!r:.60}.'
      ' Correct it.'
    )
  prompt = Prompt(
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
  import yaml

  try:
    text = epath.Path(path).expanduser().read_text(encoding='utf-8-sig')
  except (OSError, UnicodeDecodeError) as error:
    raise errors.DataError(
      f'{path}: expected a prompt file in UTF-8, found none that can be read'
      f' ({type(error).__name__}). Correct the path of --prompt.'
    ) from error
  try:
    # An alias may stand for a text of any size.
    for event in yaml.parse(text, Loader=yaml.BaseLoader):
      if isinstance(event, yaml.AliasEvent):
        raise errors.DataError(
          f'{path}, line {event.start_mark.line + 1}: expected no aliases in a'
          f' prompt file, found *{neutral.line(event.anchor, 40)}. Write the'
          ' text out.'
        )
    # All scalars are texts: `label: yes` is not a truth value here.
    document = yaml.load(text, Loader=yaml.BaseLoader)
  except (yaml.YAMLError, RecursionError) as error:
    reason = ' '.join(str(error).split())
    raise errors.DataError(
      f'{path}: expected YAML or JSON, found: {reason}. Correct the file.'
    ) from error
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
  return value.strip()


def _check_templates(path: str, question: str, answer: str) -> None:
  names = [match[1] for match in _FIELD.finditer(question)]
  if sorted(names) not in (['input'], ['hypothesis', 'premise']):
    raise errors.DataError(
      f'{path}: expected question to hold {{input}} once, or {{premise}} and'
      f' {{hypothesis}}, found {question!r:.60}. Correct it.'
    )
  names = [match[1] for match in _FIELD.finditer(answer)]
  between = answer.partition('{rationale}')[2].partition('{label}')[0]
  if names != ['rationale', 'label'] or not between.strip():
    raise errors.DataError(
      f'{path}: expected answer to hold {{rationale}}, words, and then'
      f' {{label}}, such as "{{rationale}} So the answer is {{label}}.", found'
      f' {answer!r:.60}. Correct it.'
    )


def _exemplars(path: str, found: Any) -> tuple[Exemplar, ...]:
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
    result.append(
      Exemplar(**{k: _text(place, k, row[k], True) for k in _EXEMPLAR_KEYS})
    )
  return tuple(result)


def _check_exemplars(path: str, prompt: Prompt) -> None:
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
