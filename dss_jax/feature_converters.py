"""The method's feature converter, under the name that gin files may use."""

from dss_jax.pipeline.feature_converter import DistillFeatureConverter

__all__ = ('DistillFeatureConverter',)
