"""Tests of `dss extract`, against servers on this machine only."""
