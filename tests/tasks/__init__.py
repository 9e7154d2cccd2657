"""Tests of the registered tasks."""
