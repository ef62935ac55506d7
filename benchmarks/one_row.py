"""Predictions of one row at a time: ours, the same model as scikit-learn's and as ONNX; and what a model file costs."""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import gate, table
from threadpoolctl import threadpool_limits

import daskml_core
from daskml_core.cluster import KMeans
from daskml_core.kernel_approximation import Nystroem
from daskml_core.linear_model import LogisticRegression, Ridge
from daskml_core.onnx import to_onnx
from daskml_core.pipeline import make_pipeline
from daskml_core.preprocessing import StandardScaler
from daskml_core.svm import SVC

ROWS, FEATURES = 20_000, 50


def microseconds(call: Callable[[], object], repeats: int = 300) -> float:
    """Median of CPU time."""
    for _ in range(20):
        call()
    seconds = []
    for _ in range(repeats):
        start = time.process_time_ns()
        call()
        seconds.append(time.process_time_ns() - start)
    return statistics.median(seconds) / 1e3


def onnx(model: object, row: np.ndarray) -> float | str:
    """The same of onnxruntime, in float32 on one thread."""
    try:
        import onnxruntime
    except ImportError:
        return "not installed"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        to_onnx(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    single = row.astype(np.float32)
    return microseconds(lambda: session.run(None, {"X": single}))


def main() -> None:
    """Print the tables."""
    warnings.simplefilter("ignore")
    threadpool_limits(1)  # a row is no work for two threads, and they would count twice while they wait
    rng = np.random.default_rng(0)
    X = rng.normal(size=(ROWS, FEATURES))
    y = X @ rng.normal(size=FEATURES) + rng.logistic(size=ROWS) > 0
    models = {
        "LogisticRegression": LogisticRegression().fit(X, y),
        "Ridge": Ridge().fit(X, y),
        "StandardScaler + LogisticRegression": make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y),
        "KMeans, k=20": KMeans(n_clusters=20).fit(X),
        "Nystroem(300) + LogisticRegression": make_pipeline(Nystroem(n_components=300), LogisticRegression()).fit(X, y),
        "SVC, rbf": SVC().fit(X[:5000], y[:5000]),
    }
    row, rows, files, slowest, longest = X[:1], [], [], 0.0, 0.0
    with tempfile.TemporaryDirectory() as directory:
        for name, model in models.items():
            ours = microseconds(lambda model=model: model.predict(row))
            converted = model.to_sklearn()
            theirs = microseconds(lambda converted=converted: converted.predict(row))
            slowest = max(slowest, theirs)
            rows.append([name, ours, theirs, onnx(model, row)])
            path = Path(directory) / "m"
            saving = microseconds(lambda model=model, path=path: model.save(path), 30) / 1e3
            loading = microseconds(lambda path=path: daskml_core.load(path), 30) / 1e3
            longest = max(longest, loading)
            files.append([name, path.stat().st_size / 1024, saving, loading])
    table(
        f"predict of one row of {FEATURES} features, NumPy in, microseconds", ["", "ours", "to_sklearn()", "ONNX"], rows
    )
    table("a model file", ["", "KiB", "save, ms", "load, ms"], files)
    gate("to_sklearn(): one row in less than a millisecond", slowest < 1000)
    gate("ONNX: one row in less than 100 microseconds", all(isinstance(r[3], str) or r[3] < 100 for r in rows))
    gate("a model is loaded in less than a second", longest < 1000)


if __name__ == "__main__":
    main()
