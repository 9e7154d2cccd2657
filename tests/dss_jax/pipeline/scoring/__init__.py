"""Tests of dss_jax.pipeline.scoring."""
