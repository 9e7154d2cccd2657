"""First requests of an extraction, and what their failures mean for the user.

Mistakes are found before many rows are spent. The server is asked for its
models, which shows whether there is one and whether it takes the key. Then the
row with the longest prompt is asked alone: if it succeeds, the model exists,
knows the parameters and has room for every prompt. If just this row is refused,
others go on.
"""

from collections.abc import Mapping
from typing import Any, NoReturn

from dss_jax import errors, neutral
from dss_jax.extract import request_queue
from dss_jax.extract.api import bodies, failures, secrets
from dss_jax.extract.api import client as client_lib
from dss_jax.extract.replies import thoughts


class UnknownFormatError(errors.DataError):
  """A server that does not know `response_format`: it can be asked for text."""


async def check(
  client: client_lib.Client,
  queue: request_queue.RequestQueue,
  first: request_queue.Job,
  retries: int,
  may_ask_for_text: bool = False,
) -> None:
  """Checks that requests succeed; asks one row alone, and keeps its answer.

  Args:
    client: sends a request.
    queue: asks for the row and keeps the answer.
    first: the job with the longest prompt, which shows whether prompts fit.
    retries: how often its request is sent again at most.
    may_ask_for_text: whether replies are asked for in JSON, and may be asked
      for as text if the server does not know how.

  Raises:
    UnknownFormatError: the server says that it does not know how.
    DataError: the address, key, model or prompt cannot work.
  """
  models = await _models(client)
  model = client.service.model
  is_listed = not models or model in models
  try:
    # A server may load a model that it does not list: it is asked, but once.
    await queue.run_first(first, retries if is_listed else 0)
  except failures.Failure as failure:
    if may_ask_for_text and failures.is_unknown_format(str(failure)):
      raise UnknownFormatError(
        f'{client.url}: the server does not know response_format ({failure})'
      ) from None
    refuse(client, failure, models, f'{first.row.split} row {first.row.index}')


async def _models(client: client_lib.Client) -> list[str] | None:
  """Returns the server's models, None if it does not list them.

  Raises:
    DataError: there is no server, or it refused the key.
  """
  try:
    return await client.models()
  except failures.RetryableFailure as failure:
    if not failure.unreachable:
      return None
    raise errors.DataError(
      f'--url {client.url}: expected a server there, found none ({failure}).'
      ' Start it, or correct the address.'
    ) from None
  except failures.FatalFailure as failure:
    if failure.status in (401, 402, 403, 407):
      refuse(client, failure, None, '')
    return None
  except failures.Failure:
    return None


def refuse(
  client: client_lib.Client,
  failure: failures.Failure,
  models: list[str] | None,
  rows: str,
) -> NoReturn:
  """Raises a DataError that says why no request can succeed.

  Args:
    client: sent the request.
    failure: what came back.
    models: the names that the server listed, if it did.
    rows: the error's name for the rows that were asked about.
  """
  service, url = client.service, client.url
  status = getattr(failure, 'status', 0)
  place = f'{url}, model {service.model!r}'
  why = _by_status(client, failure, status)
  # A server may say 404 for a model, or refuse all of them to a wrong key.
  is_known = not models or service.model in models or status in (401, 402, 403)
  if not is_known and status != 429:
    near = errors.did_you_mean(service.model, models or ())
    why = (
      f'--model {service.model!r}: expected one that {url} has (it lists'
      f' {neutral.names(models or ())}), found: {failure}.{near}'
    )
  if not why:
    advice = failures.advice(str(failure)) or (
      'Where --model is not known, correct it; where the prompt is too long for'
      ' the model, use fewer exemplars (--prompt) or a smaller --max-tokens;'
      ' where a parameter is not known, --param NAME=null leaves it out.'
    )
    why = f'{place}: the server did not answer {rows}: {failure}. {advice}'
  raise errors.DataError(why)


def _by_status(
  client: client_lib.Client, failure: failures.Failure, status: int
) -> str:
  """Returns what a status means for the user, '' for one that tells little."""
  service, url = client.service, client.url
  if status in (401, 403):
    variable = service.key_variable
    held = 'holds' if secrets.read_key(variable) else 'does not hold'
    return (
      f'{url}: the server refused the key ({failure}). The environment'
      f' variable {variable} {held} one: set it to a key of this server'
      ' (--api-key-env names another variable).'
    )
  if status in (402, 429):
    return (
      f'{url}: the server takes no more requests for now ({failure}).'
      " See to the account's credit or limits, then run the same command again."
    )
  if status in (404, 405):
    return (
      f'{url}, model {service.model!r}: the server has no such address'
      f' or model ({failure}). Give the address with its /v1, and a model'
      ' that the server has; --endpoint chooses chat or completion.'
    )
  if status == 407:
    return (
      f'{url}: {failure}. Put name and password into https_proxy'
      ' (http://NAME:PASSWORD@HOST:PORT) where the proxy asks for them; or name'
      " the API's host in no_proxy, or give --proxy none."
    )
  if 300 <= status < 400:
    return (
      f'--url {url}: the server points elsewhere ({failure}), where the key is'
      ' not sent unasked. Give the address that it points to, up to /v1.'
    )
  return ''


def empty_advice(
  parameters: Mapping[str, Any], found: bodies.Completion, fresh: str
) -> str:
  """Returns which parameter to change when replies have no answer.

  Args:
    parameters: of the requests.
    found: the last such reply.
    fresh: an option to add, '' for none.
  """
  if found.refusal or found.finish == 'content_filter':
    return 'Change the instruction (--prompt), or choose another --model.'
  limit = parameters.get('max_completion_tokens')
  name = '--max-tokens'
  if limit is not None:
    name = '--param max_completion_tokens=N'
  else:
    limit = parameters.get('max_tokens')
  is_thinking = (
    'A reasoning model needs room for its thoughts before its answer, and less'
    ' of them is asked for by --param reasoning_effort=low or --param'
    ' \'chat_template_kwargs={"enable_thinking": false}\', where the server'
    ' has it.'
  )
  if thoughts.is_cut(found.finish) or limit is None:
    now = '' if limit is None else f', which is {limit} now'
    return f'Give a larger {name}{fresh}{now}. {is_thinking}'
  return (
    f'Give --param stop=null{fresh}, where a stop sequence ends the thoughts;'
    f' or a larger {name}, which is {limit} now. {is_thinking}'
  )
