"""Output on the screen: the dry run, the progress, the summary."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import rich.console
import rich.progress
import rich.table

from dss_jax import neutral
from dss_jax.extract import estimate, prompts, request_queue

# Without a terminal, a line of progress is printed this often.
_LINE_EVERY_S = 30.0


def console() -> rich.console.Console:
  """Returns a console that does not break long lines."""
  return neutral.console(soft_wrap=True)


def dry_run(
  first: list[tuple[str, prompts.RenderedPrompt]],
  survey: estimate.Survey,
  samples: int,
  answer_tokens: int,
  max_tokens: int | None,
  prices: estimate.Prices,
) -> None:
  """Prints the first prompts as they would be sent, tokens and cost.

  Args:
    first: the names of the rows, and their prompts.
    survey: the survey of all rows.
    samples: the number of samples of each row.
    answer_tokens: about how many tokens an exemplar's answer has.
    max_tokens: the most that a completion may have, None for any number.
    prices: for a million tokens.
  """
  out = console()
  for name, prompt in first:
    out.rule(f'prompt of {neutral.line(name, 80)}')
    out.print(prompts.readable(prompt))
  out.rule()
  requests = survey.total * samples
  sent, likely = survey.tokens * samples, answer_tokens * requests
  out.print(f'requests        {neutral.count(requests)}')
  out.print(
    f'prompt tokens   about {neutral.count(sent)} (the longest prompt: about'
    f' {neutral.count(survey.most)})'
  )
  most = None if max_tokens is None else max_tokens * requests
  at_most = '' if most is None else f', at most {neutral.count(most)}'
  out.print(
    f'answer tokens   about {neutral.count(likely)}, if answers are as long as'
    f' those of the exemplars{at_most}'
  )
  cost = prices.cost(sent, likely)
  highest = None if most is None else prices.cost(sent, most)
  if cost is None:
    out.print('cost            not known: give --price-in and --price-out')
  else:
    at_most = '' if highest is None else f', at most ${highest:,.2f}'
    out.print(f'cost            about ${cost:,.2f}{at_most}')
  out.print('Nothing was sent.')


class Progress:
  """Progress as a bar, or as lines if there is no terminal."""

  def __init__(self, counts: request_queue.Counts):
    """Creates the bar; `shown` shows it.

    Args:
      counts: what was done before.
    """
    self._began, self._done_before = time.monotonic(), counts.done
    self._last_line = self._began
    text = rich.progress.TextColumn
    self._bar = rich.progress.Progress(
      text('asking', markup=False),
      rich.progress.BarColumn(bar_width=None),
      rich.progress.MofNCompleteColumn(),
      text('{task.fields[rate]}', markup=False),
      rich.progress.TimeRemainingColumn(elapsed_when_finished=True),
      text('{task.fields[more]}', markup=False),
      console=neutral.console(),
      refresh_per_second=4,
    )
    self._terminal = self._bar.console.is_terminal
    self._task = self._bar.add_task(
      'asking', total=counts.total, completed=counts.done, rate='', more=''
    )

  def update(self, counts: request_queue.Counts) -> None:
    """Shows what was done so far."""
    now = time.monotonic()
    rate = (counts.done - self._done_before) / max(now - self._began, 1e-3)
    more = (
      f'{counts.failed} failed, {counts.retries} sent again,'
      f' {neutral.count(counts.prompt_tokens)} +'
      f' {neutral.count(counts.completion_tokens)} tokens'
    )
    if self._terminal:
      self._bar.update(
        self._task, completed=counts.done, rate=f'{rate:.1f}/s', more=more
      )
    elif now - self._last_line >= _LINE_EVERY_S:
      self._last_line = now
      left = (counts.total - counts.done) / rate if rate else float('inf')
      neutral.say(
        f'{counts.done} of {counts.total}, {rate:.1f}/s, {left:.0f} s left,'
        f' {more}',
        err=True,
      )

  @contextlib.contextmanager
  def shown(self) -> Iterator[None]:
    """Shows the bar during a `with`, if there is a terminal."""
    with self._bar if self._terminal else contextlib.nullcontext():
      yield


def summary(numbers: Mapping[str, Any], unusable: list[dict[str, Any]]) -> None:
  """Prints a report.

  Args:
    numbers: from `report.Report.as_dict`.
    unusable: the first rows that training cannot use, and why.
  """
  out = console()
  splits = numbers['splits']
  table = rich.table.Table(box=None, pad_edge=False)
  table.add_column('')
  for name in splits:
    table.add_column(name, justify='right')
  for title, key in (
    ('rows', 'rows'),
    ('asked', 'asked'),
    ('completed', 'completed'),
    ('failed', 'failed'),
    ('no rationale found', 'blank_rationales'),
    ('no label found', 'blank_labels'),
    ('label not a possible answer', 'outside_labels'),
    ('cut at --max-tokens', 'cut'),
  ):
    table.add_row(
      title, *(neutral.count(split[key]) for split in splits.values())
    )
  table.add_row('teacher accuracy', *map(_accuracy, splits.values()))
  if numbers['samples'] > 1:
    table.add_row(
      'agreement', *(_percent(split['agreement']) for split in splits.values())
    )
  out.print(table)
  words = numbers['rationale_words']
  if words:
    shown = ', '.join(f'{p}%: {words[p]}' for p in words)
    out.print(f'words in a rationale, percentiles  {shown}')
  else:
    out.print('No row has a rationale: there is nothing to learn from this.')
  usage = numbers['usage']
  if usage:
    shown = neutral.names(
      (f'{k} {neutral.count(n)}' for k, n in usage.items()), 12
    )
    out.print(f'tokens used  {shown}')
  if numbers['cost'] is not None:
    out.print(f'cost  ${numbers["cost"]:,.2f}')
  for row in unusable:
    out.print(f'{row["split"]} {row["index"]}: {neutral.line(row["why"], 500)}')
  if numbers['unusable_rows'] > len(unusable):
    out.print(
      f'… {numbers["unusable_rows"] - len(unusable)} more rows like these'
    )


def _percent(part: float | None) -> str:
  return '–' if part is None else f'{100 * part:.2f}%'


def _accuracy(split: Mapping[str, Any]) -> str:
  return _percent(split['accuracy'])
