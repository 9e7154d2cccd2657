"""Tests of t5x.files."""
