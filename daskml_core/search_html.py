"""How a fitted search shows itself in a notebook: its best settings, what it cost, and the estimator that it chose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from daskml_core.html import records_table

MOST_ROWS = 5
"""Settings that are shown, the best first."""


class ShownSearch:
    """A summary above scikit-learn's own representation, once there are results."""

    def _summary_html(self) -> str:
        """The table, or nothing before a fit."""
        results = getattr(self, "cv_results_", None)
        return "" if results is None else _of_results(self, results)

    @property
    def _repr_html_(self) -> Callable[[], str]:
        # A property, as scikit-learn's: where it is set to show text it has no such attribute.
        inner = super()._repr_html_  # type: ignore[misc]
        return lambda: self._summary_html() + inner()

    def _repr_mimebundle_(self, **options: Any) -> dict[str, str]:
        bundle: dict[str, str] = super()._repr_mimebundle_(**options)  # type: ignore[misc]
        if "text/html" in bundle:
            bundle["text/html"] = self._summary_html() + bundle["text/html"]
        return bundle


def _of_results(search: Any, results: dict[str, Any]) -> str:
    ranks = [name for name in results if name.startswith("rank_test_")]
    refit = f"rank_test_{search.refit}" if isinstance(getattr(search, "refit", None), str) else ""
    rank = np.asarray(results[refit if refit in ranks else ranks[0]])
    order = np.argsort(rank, kind="stable")
    shown = order[:MOST_ROWS].tolist()
    settings = results["params"]
    names = sorted({name for setting in settings for name in setting})
    scores = [name for name in results if name.startswith(("mean_test_", "mean_train_")) or name == "test_score"]
    others = [name for name in ("partial_fit_calls", "bracket") if name in results]
    columns = ["rank", *names, *(name.removeprefix("mean_").replace("_", " ") for name in scores)]
    columns += [name.replace("_", " ") for name in others]
    rows = [
        [
            int(rank[i]),
            *(settings[i].get(name, "") for name in names),
            *(_with_spread(results, name, i) for name in scores),
            *(int(results[name][i]) for name in others),
        ]
        for i in shown
    ]
    left = len(order) - len(shown)
    best = getattr(search, "best_index_", None)
    return records_table(
        f"{type(search).__name__}: {_cost(search, len(settings))}",
        columns,
        rows,
        best=shown.index(best) if best in shown else None,
        note=f"and {left:,} more setting{'s' if left > 1 else ''} in cv_results_" if left else "",
    )


def _with_spread(results: dict[str, Any], name: str, i: int) -> Any:
    spread = results.get(name.replace("mean_", "std_", 1)) if name.startswith("mean_") else None
    mean = float(results[name][i])
    return mean if spread is None else f"{mean:.4g} ± {float(spread[i]):.2g}"


def _cost(search: Any, n_settings: int) -> str:
    """Settings, splits, batches and sweeps in words."""
    words = [f"{n_settings:,} settings"]
    plan = getattr(search, "search_plan_", None)
    if plan is not None:
        words[0] += f" x {plan.n_splits} splits"
        batches = "1 batch" if plan.n_batches == 1 else f"{plan.n_batches} batches"
        words.append(f"{batches} of models side by side" if plan.n_batches else "one after the other")
    sweeps = getattr(search, "n_sweeps_", None)
    if sweeps is not None:
        words.append(f"{sweeps:.3g} sweeps over the data")
    return ", ".join(words)
