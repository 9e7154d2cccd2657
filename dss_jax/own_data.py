"""Rows of the user's own, under the name that gin files use."""

from dss_jax.data.own_rows import OwnData

__all__ = ('OwnData',)
