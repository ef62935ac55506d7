"""Going over the data: spans, the fixed tree, residency, the memory plan, and the driver of the solvers."""

from daskml_core.engine.checkpoint import CheckpointPath, resumable
from daskml_core.engine.driver import Outcome, drive, sweep_together
from daskml_core.engine.engine import Engine, SweepCost, count_rows, find_complete, run_sweeps
from daskml_core.engine.memory import Plan
from daskml_core.engine.watching import begin_tasks, stopped_early, watched

__all__ = [
    "CheckpointPath",
    "Engine",
    "Outcome",
    "Plan",
    "SweepCost",
    "begin_tasks",
    "count_rows",
    "drive",
    "find_complete",
    "resumable",
    "run_sweeps",
    "stopped_early",
    "sweep_together",
    "watched",
]
