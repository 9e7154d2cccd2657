"""Tests of one request: its address, its secrets, and what its answer means."""
