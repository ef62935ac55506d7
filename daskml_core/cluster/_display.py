"""The plot of a search over numbers of clusters; matplotlib is imported when it is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np


class KMeansSearchDisplay:
    """Inertia (the elbow), silhouette and gap over the number of clusters.

    Parameters
    ----------
    results : the ``results_`` of a `KMeansSearch`.
    best : the number of clusters that was chosen.

    Attributes
    ----------
    figure_, axes_ : of matplotlib, after `plot`.

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.cluster import KMeansSearch
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> display = KMeansSearch(range(2, 5), random_state=0).fit(X).plot()
    >>> [ax.get_title() or ax.get_ylabel() for ax in display.axes_]
    ['inertia', 'simplified silhouette', 'gap statistic']
    """

    def __init__(self, results: Any, best: int) -> None:
        self.results = results
        self.best = best

    def plot(self, axes: Any = None) -> KMeansSearchDisplay:
        """Draw into ``axes`` (as many as there are curves), or into a new figure. Returns self."""
        found = self.results
        curves = [("inertia", found.inertia, None), ("simplified silhouette", found.silhouette, None)]
        if np.isfinite(found.gap).any():
            curves.append(("gap statistic", found.gap, found.gap_error))
        if axes is None:
            try:
                import matplotlib.pyplot as plt
            except ImportError as error:
                raise ImportError("Plots need matplotlib: pip install matplotlib.") from error
            _, axes = plt.subplots(1, len(curves), figsize=(4 * len(curves), 3), layout="constrained")
        self.axes_ = np.ravel(np.asarray(axes, dtype=object))
        if len(self.axes_) != len(curves):
            raise ValueError(f"There are {len(curves)} curves, but {len(self.axes_)} axes.")
        for ax, (name, values, width) in zip(self.axes_, curves, strict=True):
            ax.errorbar(found.n_clusters, values, yerr=width, marker="o", markersize=3)
            ax.axvline(self.best, linestyle=":", color="0.5")
            ax.set(xlabel="number of clusters", title=name)
        self.figure_ = self.axes_[0].figure
        return self
