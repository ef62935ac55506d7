"""SGD: one epoch over 4M x 50 against scikit-learn's, and the log-loss after five."""

from __future__ import annotations

import dask
import numpy as np
from common import gate, table, timed, two_class_store
from sklearn.linear_model import SGDClassifier as Reference

from daskml_core.linear_model import LogisticRegression, SGDClassifier
from daskml_core.metrics import log_loss


def main() -> None:
    """Print the table and the gates."""
    store = two_class_store()
    X, y = store["X"][:], store["y"][:]
    options = {"loss": "log_loss", "alpha": 1e-4, "tol": None, "random_state": 0}
    SGDClassifier(max_iter=1, **options).fit(X[:1000], y[:1000])
    optimum = log_loss(y, LogisticRegression().fit(X, y).predict_proba(X))
    rows, seconds = [], {}
    cases = [
        ("daskml_core", SGDClassifier, 1, {}),
        ("scikit-learn", Reference, 1, {}),
        ("daskml_core", SGDClassifier, 5, {}),
        ("daskml_core, averaged", SGDClassifier, 5, {"average": 4_000_000}),
        ("daskml_core, 2 chains", SGDClassifier, 5, {"n_chains": 2, "averages_per_epoch": 5}),
        ("daskml_core, batches of 64", SGDClassifier, 5, {"batch_size": 64}),
        ("scikit-learn", Reference, 5, {}),
    ]
    losses = {}
    for name, kind, epochs, more in cases:
        model, wall, cpu = timed(lambda k=kind, e=epochs, m=more: k(max_iter=e, **(options | m)).fit(X, y))
        losses[name, epochs] = log_loss(y, model.predict_proba(X))
        seconds[name, epochs] = wall
        rows.append([name, epochs, wall, cpu, f"{losses[name, epochs] / optimum - 1:.3%}"])
    with dask.config.set({"daskml-core.residency": False}):
        model, wall, cpu = timed(lambda: SGDClassifier(max_iter=1, **options).fit(store["X"], store["y"]))
    rows.append(
        ["daskml_core, streamed from zarr", 1, wall, cpu, f"{log_loss(y, model.predict_proba(X)) / optimum - 1:.3%}"]
    )
    table(f"SGD on 4M x 50, optimal log-loss {optimum:.6f}", ["", "epochs", "wall s", "cpu s", "above optimum"], rows)
    gate("one epoch no slower than scikit-learn's", seconds["daskml_core", 1] <= seconds["scikit-learn", 1])
    gate("within 0.5 % of the optimum after 5 epochs", losses["daskml_core", 5] <= optimum * 1.005)
    gate("finite", bool(np.isfinite(list(losses.values())).all()))


if __name__ == "__main__":
    main()
