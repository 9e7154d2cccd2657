"""An OpenAI-compatible API: one request, and what its answer means.

The doors:

  `addresses`  where the API is, and the proxy on the way to it
  `secrets`    what must not be kept or shown, and how it is removed
  `client`     one request
  `bodies`     what the body of an answer holds
  `failures`   what is worth asking again, and what to change
"""

__all__ = ('addresses', 'bodies', 'client', 'failures', 'secrets')
