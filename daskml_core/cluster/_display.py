"""The plot of a search over numbers of clusters; matplotlib is imported when it is drawn."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from daskml_core.drawing import pyplot


class KMeansSearchDisplay:
    """Inertia (the elbow), silhouette and gap over the number of clusters.

    Parameters
    ----------
    results : the ``results_`` of a `KMeansSearch`.
    best : the number of clusters that was chosen.

    Attributes
    ----------
    figure_, axes_ : of matplotlib, after `plot`.
    ax_ : the first of the axes, that of the elbow.

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.cluster import KMeansSearch, KMeansSearchDisplay
    >>> X = np.random.default_rng(0).normal(size=(300, 2)) + np.arange(300)[:, None] % 3 * 9
    >>> search = KMeansSearch(n_clusters=(2, 3, 4), n_references=2, random_state=0).fit(X)
    >>> KMeansSearchDisplay.from_estimator(search).best
    3
    """

    def __init__(self, results: Any, best: int) -> None:
        self.results = results
        self.best = best

    @classmethod
    def from_estimator(cls, search: Any, *, ax: Any = None, plot: bool = True) -> Self:
        """The display of a fitted `KMeansSearch`; nothing is read. ``ax`` as in `plot`."""
        if not hasattr(search, "n_references"):
            raise TypeError(f"{cls.__name__} shows a KMeansSearch, got {type(search).__name__}.")
        check_is_fitted(search, "inertias_")
        display = cls(search.results_, search.best_n_clusters_)
        return display.plot(ax=ax) if plot else display

    def plot(self, axes: Any = None, *, ax: Any = None) -> Self:
        """Draw into ``axes`` (one a curve), or into a new figure; with ``ax`` the elbow alone. Returns self."""
        found = self.results
        curves = [("inertia", found.inertia, None), ("simplified silhouette", found.silhouette, None)]
        if np.isfinite(found.gap).any():
            curves.append(("gap statistic", found.gap, found.gap_error))
        if ax is not None:
            if axes is not None:
                raise ValueError("Pass ax for the elbow alone, or axes for all curves, not both.")
            curves, axes = curves[:1], ax
        if axes is None:
            plt = pyplot(type(self).__name__)
            _, axes = plt.subplots(1, len(curves), figsize=(4 * len(curves), 3), layout="constrained")
        self.axes_ = np.ravel(np.asarray(axes, dtype=object))
        if len(self.axes_) != len(curves):
            raise ValueError(f"There are {len(curves)} curves, but {len(self.axes_)} axes.")
        for ax, (name, values, width) in zip(self.axes_, curves, strict=True):
            ax.errorbar(found.n_clusters, values, yerr=width, marker="o", markersize=3)
            ax.axvline(self.best, linestyle=":", color="0.5")
            ax.set(xlabel="number of clusters", title=name)
        self.ax_ = self.axes_[0]
        self.figure_ = self.ax_.figure
        return self
