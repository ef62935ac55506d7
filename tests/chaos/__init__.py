"""Faults on purpose: what is promised of each, run against real processes. `table.py` writes docs/reliability.md's table."""
