"""Rationales and labels from a teacher behind an OpenAI-compatible API.

The parts, in the order of an extraction:

  `prompts`        instruction, exemplars and answer format
  `prompt_files`   the packaged prompts, and the user's own
  `rows`           streams the inputs
  `estimate`       tokens and money before anything is spent
  `api`            one request, and what its answer means
  `replies`        rationale and label in a reply, and never a thought
  `journal`        every completion, on disk as it comes
  `request_queue`  many requests at once, within limits, retried
  `results`        votes, the published layout, and rows as JSON lines
  `kinds`          further kinds of rationales beside the first
  `report`         what came out
  `screen`         the dry run, the progress, the summary
  `first_requests` what shows whether further requests can succeed
  `extraction`     one extraction from its first request to its report
  `command`        `dss extract`

`dss_jax/data/teacher_outputs.py` says where an extraction is kept. Nothing is
imported here: each part is imported by its own name. None needs TensorFlow or
JAX.
"""
