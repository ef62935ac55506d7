"""Fit a model to a zarr store; interrupted and run again, it goes on to the same bits.

``python fit.py STORE MODEL`` on one machine, ``python fit.py STORE MODEL --scheduler-file FILE --workers N`` on a cluster.
"""

from __future__ import annotations

import argparse
import signal

import zarr
from distributed import Client

from daskml_core.linear_model import LogisticRegression


def fit(store: str, path: str) -> LogisticRegression:
    """Fit on the active ``Client``, or in threads of this process; keep a checkpoint beside the model until it is there."""
    data = zarr.open_group(store, mode="r")
    model = LogisticRegression()
    print(model.plan(data["X"], data["y"]), flush=True)  # memory and sweeps, before X is read
    model.fit(data["X"], data["y"], checkpoint=f"{path}.checkpoint")
    model.save(path)
    print(f"{path}: log-loss {model.history_[-1]['loss']:.6f}, {model.n_sweeps_:.1f} sweeps", flush=True)
    return model


def leave(number: int, frame: object) -> None:
    """End by an exception, not at once: a fit that ends so writes what it has learnt since its last checkpoint."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, leave)  # what SLURM sends before it takes a node back
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store")
    parser.add_argument("model")
    parser.add_argument("--scheduler-file")
    parser.add_argument("--workers", type=int, default=1, help="begin when so many are there")
    args = parser.parse_args()
    if args.scheduler_file is None:
        fit(args.store, args.model)
    else:
        with Client(scheduler_file=args.scheduler_file) as client:
            client.wait_for_workers(args.workers, timeout=600)
            fit(args.store, args.model)
