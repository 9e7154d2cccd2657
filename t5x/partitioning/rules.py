"""Rules from logical axes of arrays to axes of the mesh."""

from collections.abc import Sequence

from t5x import errors

LogicalAxisRules = Sequence[tuple[str, str | None]]


def standard_logical_axis_rules(
  activation_partitioning_dims: int = 1,
  parameter_partitioning_dims: int = 1,
  additional_rules: LogicalAxisRules | None = None,
  gather_kernels: bool = False,
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
    gather_kernels: has each chip gather a kernel that is split over `data`
      before its products, and sum its gradient whole. Else the compiler may
      move parts while it multiplies, which takes more of the memory's time and
      less of the links': docs/plans.md says for which sizes that is better. Of
      the networks in t5x.examples.t5; not in T5X.

  Raises:
    errors.UserError: if a number of dimensions is neither 1 nor 2, or no kernel
      is split over `data` alone.
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
  if gather_kernels and (
    parameter_partitioning_dims,
    activation_partitioning_dims,
  ) != (2, 1):
    raise errors.UserError(
      'standard_logical_axis_rules.gather_kernels: expected'
      ' parameter_partitioning_dims = 2 and activation_partitioning_dims = 1,'
      f' found {parameter_partitioning_dims} and'
      f' {activation_partitioning_dims}. Leave it out: nothing is to be'
      ' gathered.'
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
  if gather_kernels:
    # What T5's network calls 'embed' of a kernel that products use.
    rules.append(('gathered_embed', None))
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
