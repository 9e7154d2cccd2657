"""Addresses of an API and of the proxy on the way to it."""

import ipaddress
from urllib import parse, request

from dss_jax import errors, neutral

# Where an API's endpoints are, below its address.
PATHS = {'chat': 'chat/completions', 'completion': 'completions'}


def check_url(url: str) -> str:
  """Returns an API's address without a trailing slash.

  Raises:
    DataError: it is not an address of an API, or it holds a secret.
  """
  if '@' in url or '?' in url or '#' in url:
    raise errors.DataError(
      '--url: expected an address without a password or a query, which would'
      ' end up in files. Put the key into the environment variable that'
      ' --api-key-env names.'
    )
  try:
    parts = parse.urlsplit(url)
    has_host = bool(parts.hostname) and parts.port != 0
    is_address = parts.scheme in ('http', 'https') and has_host
  except ValueError:
    is_address = False
  if not is_address:
    raise errors.DataError(
      f'--url {neutral.line(url)!r}: expected an address such as'
      ' http://127.0.0.1:8000/v1 or https://api.openai.com/v1.'
    )
  for path in PATHS.values():
    if parts.path.rstrip('/').endswith(f'/{path}'):
      whole = url.rstrip('/').removesuffix(f'/{path}')
      raise errors.DataError(
        f'--url {url!r}: expected the address up to /v1, found that of an'
        f' endpoint. Did you mean {whole!r}?'
      )
  return url.rstrip('/')


def warning(url: str) -> str:
  """Returns what to say before a key is sent to an address, '' for nothing.

  Args:
    url: the API's address, which is a right one.
  """
  parts = parse.urlsplit(url)
  if parts.scheme == 'https' or _is_loopback(parts.hostname or ''):
    return ''
  return (
    f'--url {neutral.line(url)}: the key is sent to another machine without'
    ' encryption (http://), where everyone on the way can read it. Give an'
    " https:// address, or unset the key's variable if the server needs none."
  )


def _is_loopback(host: str) -> bool:
  """Returns whether a host is this machine."""
  if host == 'localhost' or host.endswith('.localhost'):
    return True
  try:
    address = ipaddress.ip_address(host)
  except ValueError:
    return False
  return address.is_loopback or address.is_unspecified


def _bypasses_proxy(host: str, port: int | None) -> bool:
  """Returns whether no_proxy names a host: a name, a suffix, or a network."""
  place = host if port is None or ':' in host else f'{host}:{port}'
  if request.proxy_bypass(place):
    return True
  names = request.getproxies().get('no', '').split(',')
  for name in filter(lambda name: '/' in name, map(str.strip, names)):
    try:
      if ipaddress.ip_address(host) in ipaddress.ip_network(name, False):
        return True
    except ValueError:
      continue
  return False


def find_proxy(url: str, given: str | None) -> str:
  """Returns the address of the proxy for an API, '' for none.

  Args:
    url: the API's address. This machine's own has no proxy but a given one.
    given: a proxy; 'none' for none, None for that of the environment
      (`https_proxy`, `http_proxy`, `all_proxy`, except what `no_proxy` names).

  Raises:
    DataError: the proxy is of a kind that is not supported.
  """
  parts = parse.urlsplit(url)
  host = parts.hostname or ''
  option = '--proxy'
  if given is None:
    if _is_loopback(host) or _bypasses_proxy(host, parts.port):
      return ''
    proxies = request.getproxies()
    scheme = parts.scheme if proxies.get(parts.scheme) else 'all'
    given, option = proxies.get(scheme, ''), f'{scheme}_proxy'
  if given in ('', 'none'):
    return ''
  whole = given if '://' in given else f'http://{given}'
  try:
    found = parse.urlsplit(whole)
    is_known = found.scheme in ('http', 'https') and bool(found.hostname)
    is_known = is_known and found.port != 0
  except ValueError:
    is_known = False
  if not is_known:
    # Not the address itself, which may hold a password.
    raise errors.DataError(
      f'{option}: expected the address of an HTTP proxy, such as'
      ' http://proxy.example:3128, found another. Correct it, or give'
      " --proxy none, or name the API's host in no_proxy."
    )
  return whole
