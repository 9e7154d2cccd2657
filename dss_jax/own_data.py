"""The user's own rows, under the name that gin files and programs use."""

from dss_jax.data.own_rows import OwnData, read

__all__ = ('OwnData', 'read')
