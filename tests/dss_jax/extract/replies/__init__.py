"""Tests of how replies are read: without a server."""
