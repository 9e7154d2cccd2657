"""Rules from logical axes of arrays to axes of the mesh."""

from collections.abc import Sequence

from t5x import errors

LogicalAxisRules = Sequence[tuple[str, str | None]]


def standard_logical_axis_rules(
  activation_partitioning_dims: int = 1,
  parameter_partitioning_dims: int = 1,
  additional_rules: LogicalAxisRules | None = None,
) -> list[tuple[str, str | None]]:
  """Returns T5X's table from logical axis names to mesh axes.

  The first rule for a name whose mesh axis the array doesn't use yet applies,
  so that under (2, 2) a parameter ('embed', 'mlp') has 'mlp' on `model` and
  'embed' on `data`, while an activation ('batch', 'length', 'embed') has
  'embed' on `model`.

  Args:
    activation_partitioning_dims: 1 splits activations over `data` by the batch
      alone; 2 also splits 'embed' over `model`.
    parameter_partitioning_dims: 1 splits parameters over `model`; 2 also splits
      'embed' over `data`, and the optimizer's state with it.
    additional_rules: appended to the table.

  Raises:
    errors.UserError: if a number of dimensions is neither 1 nor 2.
  """
  for name, value in (
    ('activation_partitioning_dims', activation_partitioning_dims),
    ('parameter_partitioning_dims', parameter_partitioning_dims),
  ):
    if value not in (1, 2):
      raise errors.UserError(
        f'standard_logical_axis_rules.{name}: expected 1 or 2, found {value}.'
        ' Set it to 1 to split over one mesh axis, 2 for both.'
      )
  rules: list[tuple[str, str | None]] = [
    ('batch', 'data'),
    ('vocab', 'model'),
    ('mlp', 'model'),
    ('heads', 'model'),
    ('kv', None),
    ('joined_kv', 'model'),
  ]
  if activation_partitioning_dims == 2:
    rules.append(('embed', 'model'))
  if parameter_partitioning_dims == 2:
    rules.append(('embed', 'data'))
  if activation_partitioning_dims == parameter_partitioning_dims == 1:
    rules.append(('embed', None))
  rules += [
    (name, None)
    for name in (
      'relpos_buckets',
      'abspos_buckets',
      'length',
      'layers',
      'stack',
      'mlp_activations',
      'lora_rank',
    )
  ]
  return [*rules, *(additional_rules or ())]
