"""The user's own rows, under the name that gin files use."""

from dss_jax.data.own_rows import OwnData

__all__ = ('OwnData',)
