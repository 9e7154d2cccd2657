"""Runs of a study as processes: where, when, and how they end."""
