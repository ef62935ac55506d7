"""What a callback's ``on_event`` is called with; `daskml_core.engine.events` says what each of them means."""

from daskml_core.engine.events import (
    CheckpointWritten,
    DataPlanned,
    Event,
    FitBegan,
    FitEnded,
    ModelEnded,
    ModelsBegan,
    Scored,
    StepAccepted,
    SweepBegan,
    SweepEnded,
    WorkerLost,
)

__all__ = [
    "CheckpointWritten",
    "DataPlanned",
    "Event",
    "FitBegan",
    "FitEnded",
    "ModelEnded",
    "ModelsBegan",
    "Scored",
    "StepAccepted",
    "SweepBegan",
    "SweepEnded",
    "WorkerLost",
]
