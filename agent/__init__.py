"""Decides and runs: scheduler, rounds, diagnosis, state."""
