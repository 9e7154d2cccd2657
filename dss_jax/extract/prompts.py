"""Prompts of a teacher: instruction, exemplars, and how a reply is read."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping

from dss_jax import errors, neutral
from dss_jax.data import completions, row_formats
from dss_jax.extract.replies import answers, structured, thoughts

ENDPOINTS = ('chat', 'completion')
# A field of a template.
FIELD = re.compile(r'\{(input|premise|hypothesis|rationale|label)\}')
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
  return FIELD.sub(lambda match: values.get(match[1], match[0]), template)


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
    stop = FIELD.split(self.question)[0].strip()
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
