"""Rationales and labels from a teacher behind an OpenAI-compatible API.

The parts, in the order of an extraction:

  `prompts`        instruction, exemplars and answer format; reading a reply
  `rows`           streams the inputs
  `estimate`       tokens and money before anything is spent
  `client`         one request
  `bodies`         what the body of an answer holds
  `thoughts`       a reasoning model's thoughts, told from its answer
  `answers`        an answer, read out of Markdown
  `failures`       what is worth asking again, and what to change
  `journal`        every completion, on disk as it comes
  `request_queue`  many requests at once, within limits, retried
  `results`        votes, the published layout, and rows as JSON lines
  `report`         what came out
  `screen`         the dry run, the progress, the summary
  `first_requests` what shows whether further requests can succeed
  `extraction`     one extraction from its first request to its report
  `command`        `dss extract`

`dss_jax/data/teacher_outputs.py` says where an extraction is kept. Nothing is
imported here: each part is imported by its own name. None needs TensorFlow or
JAX.
"""
