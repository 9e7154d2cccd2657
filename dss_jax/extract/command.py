"""Command `dss extract`, which asks a teacher for rationales and labels.

Its options are checked here; `extraction` does the work. Only `extraction`
needs the packages of the extra `extract`, so that it is imported late.
"""

import contextlib
import json
import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click
from etils import epath

from dss_jax import command_lines, errors, neutral, sample
from dss_jax.data import own_rows, records, release, row_files
from dss_jax.extract import estimate, kinds, prompt_files, prompts
from dss_jax.extract import rows as rows_lib
from dss_jax.extract.api import secrets
from dss_jax.extract.replies import structured

if TYPE_CHECKING:
  from dss_jax.extract import extraction

DEFAULT_KEY = 'OPENAI_API_KEY'
# Names that mean something else than a teacher of the user's own.
_RESERVED_TEACHERS = ('gold', 'gpt_neox', 'llm', 'palm', 'rows')
# Fields of a request that the command sets.
_RESERVED_PARAMETERS = ('messages', 'model', 'n', 'prompt', 'stream')


def _check_teacher(name: str | None) -> None:
  if name is None:
    raise errors.DataError(
      '--teacher: expected a name for the result, such as --teacher mine, under'
      ' which TEACHER finds it.'
    )
  is_name = re.fullmatch(r'[A-Za-z0-9][A-Za-z0-9_]*', name)
  if not is_name or name in (*_RESERVED_TEACHERS, *records.DATA_SETS):
    raise errors.DataError(
      f'--teacher {name!r}: expected a new name of letters, digits and _, under'
      ' which TEACHER finds the result.'
    )


def _pairs(option: str, values: tuple[str, ...]) -> dict[str, str]:
  """Returns the values of an option that is given as NAME=VALUE."""
  result = {}
  for pair in values:
    name, equals, value = pair.partition('=')
    if not equals:
      raise errors.DataError(f'{option} {pair!r}: expected NAME=VALUE.')
    result[name.strip()] = value
  return result


def _parameters(
  prompt: prompts.Prompt, options: dict[str, Any]
) -> dict[str, Any]:
  """Returns the fields of a request besides model and prompt."""
  # JSON ends by itself.
  own_stop = [] if prompt.json_format else prompt.stop
  stop = list(options['stop']) or list(own_stop)
  result: dict[str, Any] = {
    'temperature': options['temperature'],
    'max_tokens': options['max_tokens'],
    'stop': stop or None,
  }
  for name, value in _pairs('--param', options['param']).items():
    if name in _RESERVED_PARAMETERS:
      raise errors.DataError(
        f'--param {name}: expected another name;'
        f' {", ".join(_RESERVED_PARAMETERS)} are set by the command itself.'
      )
    try:
      result[name] = json.loads(value)
    except (ValueError, RecursionError):
      result[name] = value
  if prompt.json_format is not None:
    if 'response_format' in result:
      raise errors.DataError(
        '--param response_format: expected none with --structured, which sets'
        ' it. Leave one of them out.'
      )
    result['response_format'] = prompt.json_format.parameter()
  return {k: v for k, v in result.items() if v is not None}


def _release() -> str:
  """Returns the folder of the published release, fetched if need be."""
  # The folder that TFDS uses, found without TensorFlow.
  root = os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
  return str(release.fetch(epath.Path(root).expanduser()))


def _column_options(columns: dict[str, str]) -> list[str]:
  return [
    word
    for name, column in columns.items()
    for word in ('--column', f'{name}={column}')
  ]


def _draft(data: str, options: dict[str, Any]) -> None:
  """Writes a prompt file to begin with, and says how to go on."""
  from dss_jax.extract import drafts

  if options['data_set'] or not own_rows.is_own(data):
    raise errors.DataError(
      f'{data}: expected rows of your own with --draft-prompt; the published'
      ' data sets have prompts of their own.'
    )
  draft = drafts.of_rows(data, _pairs('--column', options['column']))
  path = pathlib.Path(options['prompt'] or 'prompt.yaml')
  drafts.write(draft, path)
  command = [
    *('dss', 'extract', data, *_column_options(dict(draft.columns))),
    *('--prompt', str(path), '--teacher', options['teacher'] or 'mine'),
    '--dry-run',
  ]
  neutral.say(
    f'{path} is a prompt to begin with. Write what its marks ask for, and look'
    f' at what is then asked:\n{command_lines.typed(command, "  ")}'
  )


@contextlib.contextmanager
def _rows(data: str, options: dict[str, Any]) -> Iterator[rows_lib.Rows]:
  """Yields the rows; published rows are copied to a temporary folder."""
  data_set, columns = options['data_set'], options['column']
  named = data in ('sample', 'release')
  if data_set is None and not named and own_rows.is_own(data):
    if not options['prompt']:
      columns = _column_options(_pairs('--column', columns))
      draft = ['dss', 'extract', data, '--draft-prompt', *columns]
      raise errors.DataError(
        f'{data}: expected --prompt with a file that holds an instruction and'
        ' exemplars, which rows of your own need. One to begin with is written'
        f' by: {command_lines.typed(draft, one_line=True)}'
      )
    yield rows_lib.own(data, _pairs('--column', columns), options['by_value'])
    return
  if columns or options['by_value']:
    raise errors.DataError(
      '--column and --by-value: expected a file of your own rows with them,'
      f' found DATA {data!r}.'
    )
  if data_set is None:
    raise errors.DataError(
      f'DATA {data!r}: expected --data-set with it, one of'
      f' {", ".join(records.DATA_SETS)}, or rows of your own: a file that ends'
      f' in {", ".join(row_files.ENDINGS)}, or a folder of such files.'
    )
  records.check_data_set(data_set)
  location = data
  if data == 'sample':
    location = sample.DATA_DIR
  elif data == 'release':
    location = _release()
  with tempfile.TemporaryDirectory(prefix='dss-extract-') as folder:
    yield rows_lib.fetch(data_set, location, pathlib.Path(folder))


def _splits(rows: rows_lib.Rows, names: tuple[str, ...]) -> tuple[str, ...]:
  """Returns the splits to ask about: the named ones, or all."""
  for split in names:
    if split not in rows.paths:
      raise errors.DataError(
        f'--split {split}: expected one of {", ".join(rows.paths)}.'
        f'{errors.did_you_mean(split, rows.paths)}'
      )
  return names or tuple(rows.paths)


def _check_samples(options: dict[str, Any]) -> None:
  samples, temperature = options['samples'], options['temperature']
  if samples > 1 and not temperature:
    raise errors.DataError(
      f'--samples {samples}: expected a --temperature above 0 with it, such as'
      ' 0.7, since otherwise all samples are the same.'
    )


def _service(
  options: dict[str, Any],
  parameters: dict[str, Any],
  recorded: dict[str, Any],
) -> 'extraction.Service':
  from dss_jax.extract import extraction

  for name, what in (
    ('url', 'the address of an API, up to /v1'),
    ('model', "the API's name for the model"),
  ):
    if not options[name]:
      raise errors.DataError(
        f'--{name}: expected {what}, found none. Give it, or --dry-run to see'
        ' what would be asked.'
      )
  return extraction.Service(
    url=options['url'],
    model=options['model'],
    endpoint=options['endpoint'],
    parameters=parameters,
    timeout=options['timeout'],
    connections=options['concurrency'],
    key_variable=options['api_key_env'],
    proxy=options['proxy'],
    recorded=recorded,
  )


def _pace(options: dict[str, Any]) -> 'extraction.Pace':
  from dss_jax.extract import extraction

  return extraction.Pace(
    concurrency=options['concurrency'],
    requests_per_minute=options['requests_per_minute'],
    tokens_per_minute=options['tokens_per_minute'],
    retries=options['retries'],
    fresh=options['fresh'],
  )


def _prompt(options: dict[str, Any]) -> prompts.Prompt:
  data_set = options['data_set']
  if options['prompt']:
    return prompt_files.load(options['prompt'], data_set)
  return prompt_files.packaged(data_set)


def _in_json(prompt: prompts.Prompt, options: dict[str, Any]) -> prompts.Prompt:
  """Returns the prompt that asks for replies in JSON."""
  if options['endpoint'] != 'chat':
    raise errors.DataError(
      '--structured: expected --endpoint chat with it, since completions have'
      f' no response_format, found {options["endpoint"]!r}.'
    )
  return prompts.as_json(
    prompt,
    structured.of(options['data_set'], options['by_value'], options['class']),
  )


def _check_classes(options: dict[str, Any]) -> None:
  classes = options['class']
  if not classes:
    return
  if options['data_set'] or options['by_value'] or not options['structured']:
    raise errors.DataError(
      '--class: expected --structured and rows of your own whose labels are no'
      ' equations with it, since it says which labels a reply may have.'
    )
  if len(set(map(str.lower, classes))) < len(classes) or len(classes) < 2:
    raise errors.DataError(
      f'--class: expected two labels or more that differ, found'
      f' {neutral.names(classes)}.'
    )


@click.command()
@click.argument('data')
@click.option(
  '--teacher',
  help='A name for the result: TEACHER in the gin files.',
)
@click.option(
  '--kind',
  default='',
  metavar='NAME',
  help='A further kind of rationales, written beside the first; with --prompt,'
  ' which asks for it.',
)
@click.option(
  '--data-set', help='cqa, svamp, asdiv, esnli or anli1; none for own rows.'
)
@click.option(
  '--url',
  envvar='OPENAI_BASE_URL',
  help='Address of the API, up to /v1.  [env: OPENAI_BASE_URL]',
)
@click.option('--model', help="The API's name for the model.")
@click.option(
  '--api-key-env',
  default=DEFAULT_KEY,
  help='The environment variable that holds the key.',
)
@click.option(
  '--endpoint', type=click.Choice(prompts.ENDPOINTS), default='chat'
)
@click.option(
  '--prompt',
  help='A YAML or JSON file with instruction, exemplars, answer format.',
)
@click.option(
  '--draft-prompt',
  is_flag=True,
  help='Own rows: write a prompt file to begin with, and ask nothing.',
)
@click.option(
  '--structured',
  is_flag=True,
  help='Ask for JSON by a schema (response_format) where the server can.',
)
@click.option(
  '--class',
  multiple=True,
  metavar='LABEL',
  help='Own rows with --structured: one of the labels, if they are few.',
)
@click.option(
  '--samples',
  type=click.IntRange(1, 1000),
  default=1,
  help='Completions of each input; the majority label wins.',
)
@click.option('--temperature', type=click.FloatRange(0), default=0.0)
@click.option('--max-tokens', type=click.IntRange(1), default=256)
@click.option(
  '--stop', multiple=True, help="A stop sequence, instead of the prompt's."
)
@click.option(
  '--param',
  multiple=True,
  metavar='NAME=JSON',
  help='Any other parameter of a request; null leaves a parameter out.',
)
@click.option(
  '--split', multiple=True, help='Ask only about this split.  [all]'
)
@click.option(
  '--limit',
  type=click.IntRange(1),
  help='Ask only about the first rows of each split.',
)
@click.option(
  '--concurrency',
  type=click.IntRange(1, 10000),
  default=32,
  help='Requests in flight at once.',
)
@click.option('--requests-per-minute', type=click.FloatRange(1))
@click.option('--tokens-per-minute', type=click.FloatRange(1))
@click.option('--retries', type=click.IntRange(0), default=8)
@click.option(
  '--timeout',
  type=click.FloatRange(0, min_open=True),
  default=120.0,
  help='Seconds for a request.',
)
@click.option(
  '--proxy',
  metavar='URL',
  help="A proxy instead of the environment's; 'none' for none.",
)
@click.option(
  '--price-in',
  type=click.FloatRange(0),
  help='Dollars per million prompt tokens.',
)
@click.option(
  '--price-out',
  type=click.FloatRange(0),
  help='Dollars per million completion tokens.',
)
@click.option(
  '--column',
  multiple=True,
  metavar='NAME=COLUMN',
  help='Own rows: the column of the file that is input, label or id.',
)
@click.option(
  '--by-value', is_flag=True, help='Own rows: labels are equations.'
)
@click.option(
  '--dry-run',
  is_flag=True,
  help='Print the first prompts, tokens and cost; send and write nothing.',
)
@click.option(
  '--show',
  type=click.IntRange(0),
  default=1,
  help='How many prompts --dry-run prints.',
)
@click.option(
  '--keep-thoughts',
  is_flag=True,
  help="Keep a reasoning model's thoughts too; they are never rationales.",
)
@click.option(
  '--fresh',
  is_flag=True,
  help='Set the journal aside and ask for everything again.',
)
def extract(data: str, **options: Any) -> None:
  """Asks a teacher for rationales and labels of DATA.

  DATA is 'sample', 'release', a folder or zip in the published layout, or rows
  of your own: JSON, CSV or Parquet, a file, a folder or a glob. The teacher is
  any model behind an OpenAI-compatible API. Every completion is kept as it
  comes: to go on after a stop, run the same command again. The result is in
  runs/teachers/TEACHER, where TEACHER in every gin file finds it.
  """
  if options.pop('draft_prompt'):
    _draft(data, options)
    return
  _check_teacher(options['teacher'])
  kinds.check(options['kind'], options['prompt'])
  _check_samples(options)
  _check_classes(options)
  if options['api_key_env'] != DEFAULT_KEY:
    secrets.check_variable(options['api_key_env'])
  with _rows(data, options) as rows:
    prompt = _prompt(options)
    if options['structured']:
      status = _extract_structured(data, rows, prompt, options)
    else:
      status = _extract(data, rows, prompt, options, {})
  if status:
    sys.exit(status)


def _extract_structured(
  data: str,
  rows: rows_lib.Rows,
  prompt: prompts.Prompt,
  options: dict[str, Any],
) -> int:
  """Asks for JSON, or for text if the server says it does not know how."""
  from dss_jax.extract import extraction, first_requests

  try:
    return _extract(data, rows, _in_json(prompt, options), options, {})
  except first_requests.UnknownFormatError as error:
    neutral.say(
      f'{error}: replies are asked for in the text format instead, and the'
      ' journal says so.',
      err=True,
    )
  recorded = {'structured': extraction.AS_TEXT}
  return _extract(data, rows, prompt, options, recorded)


def _extract(
  data: str,
  rows: rows_lib.Rows,
  prompt: prompts.Prompt,
  options: dict[str, Any],
  recorded: dict[str, Any],
) -> int:
  """Does what the options say, with one prompt.

  Args:
    data: the user's name for the rows.
    rows: the rows.
    prompt: the prompt of each row.
    options: of the command.
    recorded: what the journal keeps besides the parameters.

  Returns:
    The exit code.
  """
  from dss_jax.extract import extraction

  survey = estimate.survey(
    rows,
    prompt,
    options['endpoint'],
    _splits(rows, options['split']),
    options['limit'],
  )
  task = extraction.Extraction(
    data=data,
    teacher=options['teacher'],
    rows=rows,
    prompt=prompt,
    survey=survey,
    samples=options['samples'],
    prices=estimate.Prices(options['price_in'], options['price_out']),
    keep_thoughts=options['keep_thoughts'],
    kind=options['kind'],
  )
  parameters = _parameters(prompt, options)
  if options['dry_run']:
    task.dry_run(options['endpoint'], parameters, options['show'])
    return 0
  service = _service(options, parameters, recorded)
  return task.run(service, _pace(options))
