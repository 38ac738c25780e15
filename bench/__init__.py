"""Measurements; never part of the test run."""
