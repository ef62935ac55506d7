"""All benchmarks, one after the other: ``python benchmarks/run.py [name ...]``."""

from __future__ import annotations

import importlib
import sys

NAMES = [
    "agreement",
    "migrating",
    "fit_logistic",
    "sweep_cost",
    "memory",
    "sgd",
    "kmeans_quality",
    "kmeans_speed",
    "cluster_metrics",
    "linear_svm",
    "svm",
    "search",
    "grid",
    "one_row",
]

if __name__ == "__main__":
    for name in sys.argv[1:] or NAMES:
        importlib.import_module(name).main()
