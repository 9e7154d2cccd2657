"""Mistakes that are found before the first row is spent, or with it.

The server is asked for its models, which shows whether there is one and takes
the key. Then the row with the longest prompt is asked alone: where it succeeds,
the model exists, knows the parameters and has room for every prompt.
"""

from dss_jax import errors
from dss_jax.extract import client as client_lib
from dss_jax.extract import engine


async def check(
  client: client_lib.Client,
  asking: engine.Engine,
  first: engine.Job,
  retries: int,
  of_rows: str,
) -> None:
  """Sees whether requests succeed; asks one row alone, and keeps its answer.

  Args:
    client: sends a request.
    asking: asks and keeps.
    first: the job with the longest prompt, which shows whether prompts fit.
    retries: how often its request is sent again at most.
    of_rows: how an error calls it.

  Raises:
    DataError: address, key, model or prompt cannot work.
  """
  models = await _models(client)
  model = client.service.model
  listed = not models or model in models
  try:
    # A server may load a model that it does not list: it is asked, but once.
    await asking.alone(first, retries if listed else 0)
  except client_lib.Failure as failure:
    refuse(client, failure, models, of_rows)


async def _models(client: client_lib.Client) -> list[str] | None:
  try:
    return await client.models()
  except client_lib.Passing as failure:
    if not failure.unreachable:
      return None
    raise errors.DataError(
      f'--url {client.url}: expected a server there, found none ({failure}).'
      ' Start it, or correct the address.'
    ) from None
  except client_lib.Final as failure:
    if failure.status in (401, 402, 403):
      refuse(client, failure, None, '')
    return None
  except client_lib.Failure:
    return None


def refuse(
  client: client_lib.Client,
  failure: client_lib.Failure,
  models: list[str] | None,
  of_rows: str,
) -> None:
  """Raises a DataError that says why no request can succeed.

  Args:
    client: sent the request.
    failure: what came back.
    models: the names that the server listed, if it did.
    of_rows: how an error calls the row that was asked.
  """
  service = client.service
  status = getattr(failure, 'status', 0)
  if status in (401, 403):
    held = 'holds' if client_lib.key(service.key_variable) else 'does not hold'
    raise errors.DataError(
      f'{client.url}: the server refused the key ({failure}). The environment'
      f' variable {service.key_variable} {held} one: set it to a key of this'
      ' server (--api-key-env names another variable).'
    )
  if status in (402, 429):
    raise errors.DataError(
      f'{client.url}: the server takes no more requests for now ({failure}).'
      " See to the account's credit or limits, then run the same command again."
    )
  if models and service.model not in models:
    near = errors.did_you_mean(service.model, models)
    shown = ', '.join(models[:8]) + (', …' if len(models) > 8 else '')
    raise errors.DataError(
      f'--model {service.model!r}: expected one that {client.url} has (it lists'
      f' {shown}), found: {failure}.{near}'
    )
  if status in (404, 405):
    raise errors.DataError(
      f'{client.url}, model {service.model!r}: the server has no such address'
      f' or model ({failure}). Give the address with its /v1, and a model'
      ' that the server has; --endpoint chooses chat or completion.'
    )
  raise errors.DataError(
    f'{client.url}, model {service.model!r}: the server did not answer'
    f' {of_rows}: {failure}. Where --model is not known, correct it; where the'
    ' prompt is too long for the model, use fewer exemplars (--prompt) or a'
    ' smaller --max-tokens; where a parameter is not known, --param NAME=null'
    ' leaves it out.'
  )
