"""Whether a dataset config has a length for each feature that a model reads."""

from typing import Any

from t5x import errors


def check(
  provider: Any,
  cfg: Any,
  feature_converter_cls: Any,
  longest_by_default: bool = False,
) -> None:
  """Checks the lengths of a `datasets.DatasetConfig`.

  Args:
    provider: the task or mixture that the config names.
    cfg: the config.
    feature_converter_cls: the model's feature converter.
    longest_by_default: whether a feature without a length takes that of its
      longest example, as in evaluation.

  Raises:
    errors.UserError: a length is missing, or names no feature.
  """
  known = provider.output_features
  read = getattr(feature_converter_cls, 'TASK_FEATURES', known)
  lengths = cfg.task_feature_lengths
  where = f'The dataset {provider.name!r} ({cfg.split})'
  if lengths is None:
    if longest_by_default:
      return
    raise errors.UserError(
      f'{where} needs TASK_FEATURE_LENGTHS, for example'
      " {'inputs': 512, 'targets': 128}."
    )
  for name in lengths:
    if name not in known and name not in read:
      raise errors.UserError(
        f'{where}: TASK_FEATURE_LENGTHS names {name!r}, but the features are'
        f' {sorted(known)}.{errors.did_you_mean(name, known)}'
      )
  needed = sorted(name for name in known if name in read)
  missing = [name for name in needed if lengths.get(name) is None]
  if missing and not longest_by_default:
    raise errors.UserError(
      f'{where}: TASK_FEATURE_LENGTHS has no length for'
      f' {", ".join(map(repr, missing))}, found {dict(lengths)}. Give one to'
      f' each of {needed}.'
    )
