"""One extraction from its first request to its report.

Mistakes are found before the first row is spent, or with it. The server is
asked for its models, which shows whether there is one and takes the key. Then
the row with the longest prompt is asked alone: where it succeeds, the model
exists, knows the parameters and has room for every prompt.
"""

import asyncio
import contextlib
import dataclasses
import pathlib
import shutil
import signal
from collections.abc import Iterator
from typing import Any

import click

from dss_jax import errors
from dss_jax.extract import (
  client,
  estimate,
  journal,
  places,
  prompts,
  report,
  request_queue,
  results,
  screen,
)
from dss_jax.extract import rows as rows_lib

Service = client.Service
# Exit codes: the run stopped by itself, and by the user.
STOPPED, INTERRUPTED = 1, 130


@dataclasses.dataclass(frozen=True)
class Pace:
  """How fast to ask, and how stubbornly.

  Attributes:
    concurrency: requests at once.
    requests_per_minute: at most, None for any number.
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
  """What is asked about, and under which name it is kept.

  Attributes:
    data: how the user calls the rows.
    teacher: the name of the result.
    rows: the rows.
    prompt: what is asked of each.
    survey: how many there are.
    samples: completions of each row.
    prices: of tokens.
  """

  data: str
  teacher: str
  rows: rows_lib.Rows
  prompt: prompts.Prompt
  survey: estimate.Survey
  samples: int
  prices: estimate.Prices

  def show(self, endpoint: str, parameters: dict[str, Any], count: int) -> None:
    """Prints the first prompts, tokens and cost; sends and writes nothing.

    Args:
      endpoint: 'chat' or 'completion'.
      parameters: of the requests.
      count: how many prompts to print.
    """
    first = []
    for split, asked in self.survey.asked.items():
      for row in self.rows.read(split):
        if len(first) == count or row.index >= asked:
          break
        name = f'{split} row {row.index}, id {row.id}'
        first.append((name, self.prompt.ask(row.input, endpoint)))
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
    """Asks for what is missing, and writes results and report.

    Args:
      service: whom to ask, and how.
      pace: how fast.

    Returns:
      The exit code: 0 where every row was asked about.

    Raises:
      DataError: a mistake; where nothing was asked yet, nothing is left behind.
    """
    # What is wrong with address or key needs no file.
    client.Client(service)
    if '://' in str(places.root()):
      raise errors.DataError(
        f'{places.VARIABLE} is {places.root()}: expected a local folder, since'
        ' a journal cannot grow elsewhere. Extract locally, then copy the'
        ' folder.'
      )
    folder = pathlib.Path(places.folder(self.teacher, self.rows.data_set))
    with _nothing_left_behind(folder):
      rows = rows_lib.keep(self.rows, folder, self.teacher)
      path = folder / 'journal.jsonl'
      with (
        _aside(path) if pace.fresh else contextlib.nullcontext(),
        journal.Journal(path) as log,
      ):
        return _Run(self, rows, folder, path, log, service, pace).run()


@contextlib.contextmanager
def _aside(path: pathlib.Path) -> Iterator[None]:
  """Sets a journal aside; a mistake before any completion puts it back."""
  journal.Journal(path).close()  # Nobody else writes it.
  aside = journal.set_aside(path)
  try:
    yield
  except errors.DataError:
    if not path.exists() or path.stat().st_size == 0:
      aside.replace(path)
    raise
  if aside.stat().st_size == 0:
    aside.unlink()


@contextlib.contextmanager
def _nothing_left_behind(folder: pathlib.Path) -> Iterator[None]:
  """Removes a new folder after a mistake that came before any completion."""
  new = not folder.exists()
  try:
    yield
  except errors.DataError:
    path = folder / 'journal.jsonl'
    if new and (not path.exists() or path.stat().st_size == 0):
      shutil.rmtree(folder, ignore_errors=True)
      with contextlib.suppress(OSError):
        folder.parent.rmdir()
    raise


@dataclasses.dataclass(frozen=True)
class _Run:
  """An extraction that has its folder and its journal."""

  what: Extraction
  rows: rows_lib.Rows
  folder: pathlib.Path
  path: pathlib.Path
  log: journal.Journal
  service: Service
  pace: Pace

  def run(self) -> int:
    contents = self._contents()
    survey, samples = self.what.survey, self.what.samples
    counts = request_queue.Counts(
      survey.total * samples, contents.index.count(survey.asked)
    )
    begun = counts.done
    if begun or contents.unreadable:
      lines = contents.unreadable
      torn = f' ({lines} lines that are none)' if lines else ''
      click.echo(f'{begun} completions are in {self.path} already{torn}')
    if counts.done < counts.total:
      progress = screen.Progress(counts)
      with progress.shown():
        asked = asyncio.run(self._ask(contents, counts, progress))
      if asked.reason:
        return self._stopped(asked, begun)
    self._finish(contents)
    return 0

  def _contents(self) -> journal.JournalContents:
    survey = self.what.survey
    contents = journal.contents(
      self.path,
      journal.Index(survey.sizes, self.what.samples),
      self.service.model,
      request_queue.parameters(self.service),
      survey.prompt,
    )
    if contents.changed:
      shown = '; '.join(
        f'{count} with {name} {was}'
        for (name, was), count in contents.changed.items()
      )
      raise errors.DataError(
        f'{self.path}: expected completions of what is asked now, found others:'
        f' {shown}. Ask as before to go on; or choose another --teacher; or'
        ' give --fresh, which sets the journal aside and asks for everything.'
      )
    return contents

  def _jobs(
    self, contents: journal.JournalContents
  ) -> Iterator[request_queue.Job]:
    for split, asked in self.what.survey.asked.items():
      if not asked:
        continue
      for row in self.rows.read(split):
        if row.index >= asked:
          break
        for sample in range(self.what.samples):
          if not contents.index.done(split, row.index, sample):
            prompt = self.what.prompt.ask(row.input, self.service.endpoint)
            yield request_queue.Job(row, sample, prompt)

  def _first(self, contents: journal.JournalContents) -> request_queue.Job:
    """Returns the open job with the longest prompt, or just the first."""
    split, index = self.what.survey.longest
    for sample in range(self.what.samples):
      if not contents.index.done(split, index, sample):
        row = next(r for r in self.rows.read(split) if r.index == index)
        prompt = self.what.prompt.ask(row.input, self.service.endpoint)
        return request_queue.Job(row, sample, prompt)
    return next(self._jobs(contents))

  async def _ask(
    self,
    contents: journal.JournalContents,
    counts: request_queue.Counts,
    progress: screen.Progress,
  ) -> request_queue.RequestQueue:
    pace = self.pace
    async with client.Client(self.service) as connected:
      asking = request_queue.RequestQueue(
        connected,
        self.log,
        contents,
        counts,
        request_queue.RateLimits(
          pace.requests_per_minute, pace.tokens_per_minute
        ),
        pace.retries,
        progress.update,
      )
      with _interrupts(asking):
        first = self._first(contents)
        name = f'{first.row.split} row {first.row.index}'
        await check(connected, asking, first, pace.retries, name)
        if not asking.reason:
          await asking.run(self._jobs(contents), pace.concurrency)
      if isinstance(asking.failure, client.FatalFailure):
        click.echo(
          f'{counts.done} of {counts.total} completions are in {self.path}.'
          ' The same command goes on with the others.',
          err=True,
        )
        refuse(connected, asking.failure, None, 'further rows')
    return asking

  def _stopped(self, asked: request_queue.RequestQueue, begun: int) -> int:
    counts = asked.counts
    click.echo(
      f'Stopped: {asked.reason}. {counts.done} of {counts.total} completions'
      f' are in {self.path} ({counts.done - begun} of them from this run,'
      f' {counts.failed} rows failed, {counts.sent + counts.received} tokens).'
      ' Run the same command again to go on.',
      err=True,
    )
    return INTERRUPTED if asked.failure is None else STOPPED

  def _finish(self, contents: journal.JournalContents) -> None:
    what = self.what
    found = report.Report(self.rows, self.folder)
    outcomes = results.outcomes(
      self.rows, what.survey, contents, what.prompt, self.path
    )
    with results.Writer(self.rows, self.folder, what.teacher) as writer:
      found.add_all(outcomes, writer)
    numbers = found.as_dict(
      data=what.data,
      data_set=self.rows.data_set,
      teacher=what.teacher,
      model=self.service.model,
      parameters=request_queue.parameters(self.service),
      samples=what.samples,
      usage=contents.usage,
      cost=report.cost(contents.usage, what.prices),
    )
    found.write(numbers)
    screen.summary(numbers, found.unusable)
    self._say_what_is_next()

  def _say_what_is_next(self) -> None:
    teacher, data = self.what.teacher, self.what.data
    click.echo(f'\nin      {self.folder}')
    if self.rows.published:
      name = '' if data == 'sample' else f' --gin.DATA="\'{data}\'"'
      click.echo(
        'train   python -m t5x.train'
        f' --gin_file=gin/dss_{self.rows.data_set}.gin{name}'
        f' --gin.TEACHER="\'{teacher}\'"'
      )
    else:
      own = self.folder / 'rows' / f'{rows_lib.OWN_SPLIT}.jsonl'
      click.echo(
        'train   python -m t5x.train --gin_file=gin/dss_custom.gin'
        f' --gin.DATA="\'{own}\'" --gin.TEACHER="\'{teacher}\'"'
      )


async def check(
  connected: client.Client,
  asking: request_queue.RequestQueue,
  first: request_queue.Job,
  retries: int,
  of_rows: str,
) -> None:
  """Sees whether requests succeed; asks one row alone, and keeps its answer.

  Args:
    connected: sends a request.
    asking: asks and keeps.
    first: the job with the longest prompt, which shows whether prompts fit.
    retries: how often its request is sent again at most.
    of_rows: how an error calls it.

  Raises:
    DataError: address, key, model or prompt cannot work.
  """
  models = await _models(connected)
  model = connected.service.model
  listed = not models or model in models
  try:
    # A server may load a model that it does not list: it is asked, but once.
    await asking.alone(first, retries if listed else 0)
  except client.Failure as failure:
    refuse(connected, failure, models, of_rows)


async def _models(connected: client.Client) -> list[str] | None:
  try:
    return await connected.models()
  except client.RetryableFailure as failure:
    if not failure.unreachable:
      return None
    raise errors.DataError(
      f'--url {connected.url}: expected a server there, found none ({failure}).'
      ' Start it, or correct the address.'
    ) from None
  except client.FatalFailure as failure:
    if failure.status in (401, 402, 403):
      refuse(connected, failure, None, '')
    return None
  except client.Failure:
    return None


def refuse(
  connected: client.Client,
  failure: client.Failure,
  models: list[str] | None,
  of_rows: str,
) -> None:
  """Raises a DataError that says why no request can succeed.

  Args:
    connected: sent the request.
    failure: what came back.
    models: the names that the server listed, if it did.
    of_rows: how an error calls the row that was asked.
  """
  service, url = connected.service, connected.url
  status = getattr(failure, 'status', 0)
  if status in (401, 403):
    held = 'holds' if client.key(service.key_variable) else 'does not hold'
    raise errors.DataError(
      f'{url}: the server refused the key ({failure}). The environment'
      f' variable {service.key_variable} {held} one: set it to a key of this'
      ' server (--api-key-env names another variable).'
    )
  if status in (402, 429):
    raise errors.DataError(
      f'{url}: the server takes no more requests for now ({failure}).'
      " See to the account's credit or limits, then run the same command again."
    )
  if models and service.model not in models:
    near = errors.did_you_mean(service.model, models)
    shown = ', '.join(models[:8]) + (', …' if len(models) > 8 else '')
    raise errors.DataError(
      f'--model {service.model!r}: expected one that {url} has (it lists'
      f' {shown}), found: {failure}.{near}'
    )
  if status in (404, 405):
    raise errors.DataError(
      f'{url}, model {service.model!r}: the server has no such address'
      f' or model ({failure}). Give the address with its /v1, and a model'
      ' that the server has; --endpoint chooses chat or completion.'
    )
  raise errors.DataError(
    f'{url}, model {service.model!r}: the server did not answer'
    f' {of_rows}: {failure}. Where --model is not known, correct it; where the'
    ' prompt is too long for the model, use fewer exemplars (--prompt) or a'
    ' smaller --max-tokens; where a parameter is not known, --param NAME=null'
    ' leaves it out.'
  )


@contextlib.contextmanager
def _interrupts(asking: request_queue.RequestQueue) -> Iterator[None]:
  """Has Ctrl-C and a polite kill stop the run."""

  def interrupt() -> None:
    if not asking.reason and asking.counts.flying:
      click.echo(
        f'Stopping: waiting for {asking.counts.flying} requests that are on'
        ' their way. Ctrl-C again gives them up.',
        err=True,
      )
    asking.interrupt()

  loop = asyncio.get_running_loop()
  signals = (signal.SIGINT, signal.SIGTERM)
  for number in signals:
    loop.add_signal_handler(number, interrupt)
  try:
    yield
  finally:
    for number in signals:
      loop.remove_signal_handler(number)
