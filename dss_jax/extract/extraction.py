"""Extraction from its first request to its report."""

import asyncio
import contextlib
import dataclasses
import json
import pathlib
import shutil
import signal
from collections.abc import Iterator, Mapping
from typing import Any

from dss_jax import command_lines, errors, neutral
from dss_jax.data import teacher_outputs
from dss_jax.extract import (
  estimate,
  first_requests,
  journal,
  kinds,
  prompts,
  report,
  request_queue,
  results,
  screen,
)
from dss_jax.extract import rows as rows_lib
from dss_jax.extract.api import bodies, failures
from dss_jax.extract.api import client as client_lib
from dss_jax.extract.replies import thoughts

Service = client_lib.Service
# Exit codes of a run that stopped by itself, and of one stopped by the user.
STOPPED, INTERRUPTED = 1, 130
# Differences of a journal in a message.
_SHOWN = 6
# What a journal keeps of replies that were asked for as text, since the server
# does not know how to ask for JSON.
AS_TEXT = 'text'


@dataclasses.dataclass(frozen=True)
class Pace:
  """How fast to send requests, and how often to retry.

  Attributes:
    concurrency: how many requests may be in flight.
    requests_per_minute: None for no limit.
    tokens_per_minute: likewise.
    retries: how often a request is sent again.
    fresh: whether to set an old journal aside.
  """

  concurrency: int
  requests_per_minute: float | None = None
  tokens_per_minute: float | None = None
  retries: int = 8
  fresh: bool = False


@dataclasses.dataclass(frozen=True)
class Extraction:
  """Rows to ask about, the prompt, and the name of the result.

  Attributes:
    data: the user's name for the rows.
    teacher: the name of the result.
    rows: the rows.
    prompt: the prompt of each row.
    survey: the number of rows, prompts and tokens.
    samples: the number of completions of each row.
    prices: dollars for tokens.
    keep_thoughts: whether journal and results hold thoughts too.
    kind: of the rationales, beside the first; '' for that.
  """

  data: str
  teacher: str
  rows: rows_lib.Rows
  prompt: prompts.Prompt
  survey: estimate.Survey
  samples: int
  prices: estimate.Prices
  keep_thoughts: bool = False
  kind: str = ''

  @property
  def called(self) -> str:
    """What the teacher is called in the outputs."""
    return kinds.teacher(self.rows, self.teacher, self.kind)

  def dry_run(
    self, endpoint: str, parameters: dict[str, Any], count: int
  ) -> None:
    """Prints the first prompts, tokens and cost; sends and writes nothing.

    Args:
      endpoint: 'chat' or 'completion'.
      parameters: of the requests.
      count: how many prompts to print.
    """
    first: list[tuple[str, prompts.RenderedPrompt]] = []
    for split, asked in self.survey.asked.items():
      for row in self.rows.read(split):
        if len(first) == count or row.index >= asked:
          break
        name = f'{split} row {row.index}, id {row.id}'
        first.append((name, self.prompt.render(row.input, endpoint)))
    if 'response_format' in parameters:
      wanted = json.dumps(parameters['response_format'], ensure_ascii=False)
      neutral.say(f'response_format  {wanted}')
    answers = [
      estimate.tokens(len(exemplar.rationale) + len(exemplar.label) + 20)
      for exemplar in self.prompt.exemplars
    ]
    screen.dry_run(
      first,
      self.survey,
      self.samples,
      round(sum(answers) / len(answers)),
      parameters.get('max_tokens'),
      self.prices,
    )

  def run(self, service: Service, pace: Pace) -> int:
    """Asks for the missing completions, and writes results and report.

    Args:
      service: endpoint, model and request parameters.
      pace: how fast to ask.

    Returns:
      The exit code: 0 if every row was asked about.

    Raises:
      DataError: a mistake; if nothing was asked yet, nothing is left behind.
    """
    # A wrong address or key is reported before any file is made.
    if warning := client_lib.Client(service).warning:
      neutral.say(f'Warning: {warning}', err=True)
    if '://' in str(teacher_outputs.root()):
      raise errors.DataError(
        f'{teacher_outputs.VARIABLE} is {teacher_outputs.root()}: expected a'
        ' local folder, since a journal cannot grow elsewhere. Extract locally,'
        ' then copy the folder.'
      )
    folder = kinds.folder(self.rows, self.teacher, self.kind)
    with _new_folder_removed_on_error(folder):
      rows = rows_lib.keep(self.rows, folder, self.called)
      path = folder / 'journal.jsonl'
      with (
        _journal_set_aside(path) if pace.fresh else contextlib.nullcontext(),
        journal.Journal(path) as log,
      ):
        return _Run(self, rows, folder, path, log, service, pace).run()


@contextlib.contextmanager
def _journal_set_aside(path: pathlib.Path) -> Iterator[None]:
  """Sets a journal aside; a mistake before any completion puts it back."""
  journal.Journal(path).close()  # Raises if another process is writing it.
  aside = journal.set_aside(path)
  assert aside is not None, f'{path}: the line above creates it'
  try:
    yield
  except errors.DataError:
    if not path.exists() or path.stat().st_size == 0:
      aside.replace(path)
    raise
  if aside.stat().st_size == 0:
    aside.unlink()


@contextlib.contextmanager
def _new_folder_removed_on_error(folder: pathlib.Path) -> Iterator[None]:
  """Removes a new folder after a mistake that came before any completion."""
  is_new = not folder.exists()
  try:
    yield
  except errors.DataError:
    path = folder / 'journal.jsonl'
    if is_new and (not path.exists() or path.stat().st_size == 0):
      shutil.rmtree(folder, ignore_errors=True)
      with contextlib.suppress(OSError):
        folder.parent.rmdir()
    raise


@dataclasses.dataclass(frozen=True)
class _Run:
  """Extraction that has its folder and its open journal."""

  extraction: Extraction
  rows: rows_lib.Rows
  folder: pathlib.Path
  path: pathlib.Path
  log: journal.Journal
  service: Service
  pace: Pace

  def run(self) -> int:
    contents = self._contents()
    survey = self.extraction.survey
    counts = request_queue.Counts(
      survey.total * self.extraction.samples, contents.index.count(survey.asked)
    )
    done_before, lines = counts.done, contents.unreadable
    if done_before or lines:
      unreadable = f' ({lines} lines cannot be read)' if lines else ''
      neutral.say(
        f'{done_before} completions are in {self.path} already{unreadable}'
      )
    if counts.done < counts.total:
      progress = screen.Progress(counts)
      with progress.shown():
        queue = asyncio.run(self._ask(contents, counts, progress))
      if queue.reason:
        return self._stopped(queue, done_before)
    self._finish(contents)
    return 0

  @property
  def _asks_for_json(self) -> bool:
    return self.extraction.prompt.json_format is not None

  def _contents(self) -> journal.JournalContents:
    """Reads the journal.

    Raises:
      DataError: it holds entries that were asked differently.
    """
    survey = self.extraction.survey
    contents = journal.contents(
      self.path,
      journal.Index(survey.sizes, self.extraction.samples),
      self.service.model,
      self.service.identity,
      survey.prompt,
    )
    as_text = ('structured', json.dumps(AS_TEXT))
    if self._asks_for_json and as_text in contents.differences:
      # An earlier call found out what the server knows.
      raise first_requests.UnknownFormatError(
        f'{self.path} was begun in the text format'
      )
    if contents.differences:
      found = list(contents.differences.items())
      shown = '; '.join(
        f'{count} with {neutral.line(name, 60)} {neutral.line(was, 200)}'
        for (name, was), count in found[:_SHOWN]
      ) + ('; …' if len(found) > _SHOWN else '')
      raise errors.DataError(
        f'{self.path}: expected completions of what is asked now, found others:'
        f' {shown}. Ask as before to go on; or choose another --teacher; or'
        ' give --fresh, which sets the journal aside and asks for everything.'
      )
    return contents

  def _job(self, row: rows_lib.Row, sample: int) -> request_queue.Job:
    prompt = self.extraction.prompt.render(row.input, self.service.endpoint)
    return request_queue.Job(row, sample, prompt)

  def _jobs(
    self,
    contents: journal.JournalContents,
    first: request_queue.Job | None = None,
  ) -> Iterator[request_queue.Job]:
    """Yields a job for each sample without a completion, except the first."""
    asked_first = first and (first.row.split, first.row.index, first.sample)
    for split, asked in self.extraction.survey.asked.items():
      if not asked:
        continue
      for row in self.rows.read(split):
        if row.index >= asked:
          break
        for sample in range(self.extraction.samples):
          is_done = contents.index.done(split, row.index, sample)
          if not is_done and (split, row.index, sample) != asked_first:
            yield self._job(row, sample)

  def _first_job(self, contents: journal.JournalContents) -> request_queue.Job:
    """Returns the open job with the longest prompt, or else the first."""
    longest = self.extraction.survey.longest
    if longest is not None:
      split, index = longest
      for sample in range(self.extraction.samples):
        if not contents.index.done(split, index, sample):
          row = next(r for r in self.rows.read(split) if r.index == index)
          return self._job(row, sample)
    return next(self._jobs(contents))

  async def _ask(
    self,
    contents: journal.JournalContents,
    counts: request_queue.Counts,
    progress: screen.Progress,
  ) -> request_queue.RequestQueue:
    """Sends all requests; returns the queue, which knows why it stopped."""
    pace = self.pace
    async with client_lib.Client(self.service) as client:
      queue = request_queue.RequestQueue(
        client,
        self.log,
        contents,
        counts,
        request_queue.RateLimits(
          pace.requests_per_minute, pace.tokens_per_minute
        ),
        pace.retries,
        progress.update,
        self._reading(contents),
      )
      with _stopped_by_signals(queue):
        first = self._first_job(contents)
        await first_requests.check(
          client,
          queue,
          first,
          pace.retries,
          self._asks_for_json and not counts.done,
        )
        if not queue.reason:
          await queue.run(self._jobs(contents, first), pace.concurrency)
        if not queue.reason and not counts.done:
          queue.stop(
            f'no row got a completion, the last error: {counts.last_error}',
            queue.last_failure,
          )
      if isinstance(queue.failure, failures.FatalFailure):
        neutral.say(
          f'{counts.done} of {counts.total} completions are in {self.path}.'
          ' The same command goes on with the others.',
          err=True,
        )
        first_requests.refuse(client, queue.failure, None, 'further rows')
    return queue

  def _reading(
    self, contents: journal.JournalContents
  ) -> request_queue.Reading:
    """Returns how the queue tells whether a reply has an answer."""
    prompt = self.extraction.prompt

    def useless(found: bodies.Completion) -> str:
      is_cut = thoughts.is_cut(found.finish)
      if not is_cut and not self._asks_for_json:
        return ''
      if prompt.parse(prompt.reply(found.text, contents.opened)).label:
        return ''
      if is_cut:
        return 'ended at the token limit, before a label'
      return 'are no JSON object of a rationale and a label'

    return request_queue.Reading(
      prompt.tags, useless, self.extraction.keep_thoughts
    )

  def _stopped(
    self, queue: request_queue.RequestQueue, done_before: int
  ) -> int:
    """Prints why a run stopped, and returns the exit code."""
    counts = queue.counts
    tokens = counts.prompt_tokens + counts.completion_tokens
    neutral.say(
      f'Stopped: {queue.reason}. {counts.done} of {counts.total} completions'
      f' are in {self.path} ({counts.done - done_before} of them from this run,'
      f' {counts.failed} rows failed, {tokens} tokens).'
      f' {self._way_on(queue)}',
      err=True,
    )
    return INTERRUPTED if queue.failure is None else STOPPED

  def _way_on(self, queue: request_queue.RequestQueue) -> str:
    """Returns what to do after a run that stopped."""
    failure = queue.failure
    if isinstance(failure, bodies.EmptyReply):
      fresh = ' and --fresh' if queue.counts.done else ''
      return first_requests.empty_advice(
        self.service.parameters, failure.completion, fresh
      )
    if failure is not None and (found := failures.advice(str(failure))):
      return found
    return 'Run the same command again to go on.'

  def _finish(self, contents: journal.JournalContents) -> None:
    """Writes results and report, and prints the summary."""
    extraction = self.extraction
    counted = report.Report(self.rows, self.folder)
    outcomes = results.outcomes(
      self.rows,
      extraction.survey,
      contents,
      extraction.prompt,
      self.path,
      extraction.keep_thoughts,
    )
    with results.Writer(self.rows, self.folder, extraction.called) as writer:
      counted.add_all(outcomes, writer)
    numbers = counted.as_dict(
      data=extraction.data,
      data_set=self.rows.data_set,
      teacher=extraction.called,
      model=self.service.model,
      parameters=self.service.identity,
      samples=extraction.samples,
      usage=contents.usage,
      cost=report.cost(contents.usage, extraction.prices),
    )
    counted.write(numbers)
    screen.summary(numbers, counted.unusable)
    self._print_training_command(counted)

  def _print_training_command(self, counted: report.Report) -> None:
    neutral.say(f'\nin {self.folder}')
    name, teacher = self.rows.data_set, self.extraction.teacher
    base = kinds.folder(self.rows, teacher, '')
    others = [] if self.rows.published else kinds.join(base)
    if not counted.words:
      # Nothing to learn from; the summary says so.
      return
    what = name
    options: dict[str, Any] = {'teacher': teacher}
    if self.extraction.called != teacher:
      options['teachers'] = f'{teacher},{self.extraction.called}'
    if others:
      options['kinds'] = ','.join((kinds.FIRST, *others))
    if not self.rows.published:
      what = str(base / 'rows' / f'{rows_lib.OWN_SPLIT}.jsonl')
      if self.rows.by_value:
        options['BY_VALUE'] = True
    elif self.extraction.data != 'sample':
      options['data'] = self.extraction.data
    options |= _choices(counted.splits)
    command = command_lines.dss_train(what, f'runs/{name}_{teacher}', options)
    neutral.say(f'train a student:\n{command_lines.typed(command, "  ")}')


def _choices(splits: Mapping[str, report.SplitCounts]) -> dict[str, Any]:
  """Returns the options that rows with such counts need."""
  found: dict[str, Any] = {}
  if any(split.gold < split.completed for split in splits.values()):
    found['labels'] = 'teacher'
  if any(
    name != rows_lib.OWN_SPLIT and split.completed == split.blank_rationales
    for name, split in splits.items()
  ):
    # Of a split that was not asked about, none can be compared.
    found['EVAL_RATIONALES'] = False
  return found


@contextlib.contextmanager
def _stopped_by_signals(queue: request_queue.RequestQueue) -> Iterator[None]:
  """Lets Ctrl-C and SIGTERM stop the queue instead of raising."""

  def interrupt() -> None:
    if not queue.reason and queue.counts.in_flight:
      neutral.say(
        f'Stopping: waiting for {queue.counts.in_flight} requests that are on'
        ' their way. Ctrl-C again gives them up.',
        err=True,
      )
    queue.interrupt()

  loop = asyncio.get_running_loop()
  signals = (signal.SIGINT, signal.SIGTERM)
  for number in signals:
    loop.add_signal_handler(number, interrupt)
  try:
    yield
  finally:
    for number in signals:
      loop.remove_signal_handler(number)
