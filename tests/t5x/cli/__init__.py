"""Tests of t5x.cli."""
