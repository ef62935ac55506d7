"""A picture of what a classifier of two features has learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from daskml_core.data import load
from daskml_core.drawing import COLORS, axes_for
from daskml_core.engine import count_rows, run_sweeps
from daskml_core.kernels.moments import FEATURE_MOMENTS, FeatureMoments, merge_moments
from daskml_core.kernels.sample import RowSample, sample_sweep
from daskml_core.sweep import Array, Sweep


class DecisionRegionDisplay:
    """Regions, margin and support vectors of a classifier of two features, in scikit-learn's Display style.

    Make it with `from_estimator`.

    Parameters
    ----------
    xx0, xx1 : ndarray (resolution, resolution)
        The grid.
    regions : ndarray (resolution, resolution) of int
        Number of the class predicted at each point of the grid.
    decision : ndarray (resolution, resolution), optional
        Decision values, where there are two classes: drawn as contours at -1, 0 and 1.
    classes : sequence of labels
    points : ndarray (n_points, 2), optional
        Rows to draw.
    labels : ndarray (n_points,) of int, optional
        Numbers of their classes.
    support_vectors : ndarray (n, 2), optional
    feature_names : pair of str, optional

    Attributes
    ----------
    ax_, figure_ : matplotlib's
    regions_, boundary_, margin_, points_, support_ : matplotlib artists or ``None``

    Examples
    --------
    >>> import numpy as np
    >>> from daskml_core.svm import DecisionRegionDisplay, LinearSVC
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> y = np.where(X[:, 0] > 0, "right", "left")
    >>> model = LinearSVC().fit(X, y)
    >>> display = DecisionRegionDisplay.from_estimator(model, X, y, plot=False)
    >>> display.decision.shape
    (300, 300)
    """

    def __init__(
        self,
        xx0: Array,
        xx1: Array,
        regions: Array,
        *,
        classes: Sequence[Any],
        decision: Array | None = None,
        points: Array | None = None,
        labels: Array | None = None,
        support_vectors: Array | None = None,
        feature_names: Sequence[str] | None = None,
    ) -> None:
        self.xx0 = xx0
        self.xx1 = xx1
        self.regions = regions
        self.classes = classes
        self.decision = decision
        self.points = points
        self.labels = labels
        self.support_vectors = support_vectors
        self.feature_names = feature_names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        grid_resolution: int = 300,
        margin: float = 0.05,
        n_points: int = 1000,
        random_state: int = 0,
        feature_names: Sequence[str] | None = None,
        plot: bool = True,
        ax: Any = None,
        title: str | None = None,
    ) -> Self:
        """The display of a fitted classifier or outlier detector.

        Parameters
        ----------
        estimator : fitted on two features; ours, scikit-learn's, or a pipeline.
        X : array-like (n_rows, 2) in any container; its range is that of the picture. One sweep.
        y : array-like (n_rows,) of labels, optional
            Colours of the rows; without it, only regions are drawn.
        grid_resolution : int, default=300
            Points of the grid on each side.
        margin : float, default=0.05
            Of the picture, as a part of the range.
        n_points : int, default=1000
            Rows drawn, at most, at random over all blocks; 0 for none.
        plot : bool, default=True
            Whether to draw at once.
        ax : matplotlib Axes, optional
        title : str, optional
        """
        check_is_fitted(estimator)
        if not (hasattr(estimator, "predict") and (hasattr(estimator, "classes_") or _detects(estimator))):
            raise ValueError(f"{type(estimator).__name__} is no classifier: there are no regions to draw.")
        blocks = load(X, y, count_rows=count_rows)
        if blocks.n_features != 2:
            raise ValueError(f"A picture has two features, X has {blocks.n_features}.")
        drawn: RowSample
        moments: FeatureMoments
        wanted = max(1, min(int(n_points), blocks.n_rows))
        drawn, moments = run_sweeps(
            blocks,
            sample_sweep(wanted, blocks.n_rows, random_state, blocks.dtype.itemsize),
            Sweep(FEATURE_MOMENTS, None, merge_moments),
        )
        low, high = moments.smallest, moments.largest
        room = np.where(high > low, margin * (high - low), 1.0)
        axes = [np.linspace(a - r, b + r, grid_resolution) for a, b, r in zip(low, high, room, strict=True)]
        xx0, xx1 = np.meshgrid(*axes)
        grid = np.column_stack([xx0.ravel(), xx1.ravel()]).astype(blocks.dtype)
        classes = np.array([-1, 1]) if _detects(estimator) else np.asarray(estimator.classes_)
        regions = np.searchsorted(classes, np.asarray(estimator.predict(grid))).reshape(xx0.shape)
        decision = None
        if len(classes) == 2 and hasattr(estimator, "decision_function"):
            decision = np.asarray(estimator.decision_function(grid), dtype=np.float64).reshape(xx0.shape)
        labels = None
        if y is not None and drawn.y is not None:
            labels = np.searchsorted(classes, np.ravel(drawn.y))
        vectors = getattr(estimator, "support_vectors_", None)
        names = feature_names or blocks.feature_names
        display = cls(
            xx0,
            xx1,
            regions,
            classes=classes.tolist(),
            decision=decision,
            points=drawn.X if n_points > 0 and (y is not None or _detects(estimator)) else None,
            labels=labels,
            support_vectors=None if vectors is None or np.shape(vectors)[1:] != (2,) else np.asarray(vectors),
            feature_names=names,
        )
        return display.plot(ax=ax, title=title) if plot else display

    def plot(
        self,
        ax: Any = None,
        *,
        title: str | None = None,
        colors: Sequence[str] = COLORS,
        point_size: float = 12.0,
        legend: bool = True,
        max_support: int = 2000,
    ) -> Self:
        """Draw. Support vectors beyond ``max_support`` are thinned evenly, and the legend says so.

        Returns self, with the artists as attributes.
        """
        ax = axes_for(type(self).__name__, ax, (5.0, 4.2))
        from matplotlib.colors import ListedColormap, to_rgb

        n = len(self.classes)
        palette = [colors[k % len(colors)] for k in range(n)]
        # Mixed with white, not transparent: transparent colours add up where artists overlap.
        pale = [0.78 + 0.22 * np.array(to_rgb(color)) for color in palette]
        extent = (self.xx0.min(), self.xx0.max(), self.xx1.min(), self.xx1.max())
        self.regions_ = ax.imshow(
            self.regions, origin="lower", extent=extent, aspect="auto", cmap=ListedColormap(pale), vmin=-0.5, vmax=n - 0.5,
            interpolation="nearest", zorder=0,
        )  # fmt: skip
        self.margin_ = self.boundary_ = None
        if self.decision is not None:
            self._contours(ax)
        elif len(np.unique(self.regions)) > 1:
            levels = np.arange(n - 1) + 0.5
            self.boundary_ = ax.contour(self.xx0, self.xx1, self.regions, levels=levels, colors="0.2", linewidths=1.0)
        self.points_ = self.support_ = None
        handles: list[Any] = []
        if self.points is not None:
            codes = np.zeros(len(self.points), dtype=int) if self.labels is None else self.labels
            shades = np.array(["#444444"] if self.labels is None else palette, dtype=object)[codes]
            self.points_ = ax.scatter(
                *self.points.T, s=point_size, c=list(shades), edgecolors="white", linewidths=0.4, zorder=3
            )
            if self.labels is not None:
                handles += [_dot(color, str(label)) for color, label in zip(palette, self.classes, strict=True)]
        if self.support_vectors is not None and len(self.support_vectors):
            every = -(-len(self.support_vectors) // max_support)
            shown = self.support_vectors[::every]
            self.support_ = ax.scatter(
                *shown.T, s=3.2 * point_size, facecolors="none", edgecolors="black", linewidths=0.9, zorder=4
            )
            text = f"{len(self.support_vectors):,} support vectors"
            handles.append(_ring(text if every == 1 else f"{text} (1 in {every} drawn)"))
        ax.set_xlim(extent[:2])
        ax.set_ylim(extent[2:])
        if self.feature_names is not None:
            ax.set_xlabel(self.feature_names[0])
            ax.set_ylabel(self.feature_names[1])
        if title is not None:
            ax.set_title(title)
        if legend and handles:
            ax.legend(handles=handles, loc="best", fontsize="small", framealpha=0.9)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _contours(self, ax: Any) -> None:
        """The boundary as a line, the margin dashed; only levels that the grid reaches."""
        assert self.decision is not None
        low, high = float(self.decision.min()), float(self.decision.max())
        if low < 0 < high:
            self.boundary_ = ax.contour(
                self.xx0, self.xx1, self.decision, levels=[0.0], colors="black", linewidths=1.6, zorder=2
            )
        levels = [level for level in (-1.0, 1.0) if low < level < high]
        if levels:
            self.margin_ = ax.contour(
                self.xx0, self.xx1, self.decision, levels=levels, colors="black", linewidths=1.0, linestyles="dashed",
                zorder=2,
            )  # fmt: skip


def _detects(estimator: Any) -> bool:
    """Whether an estimator tells outliers (-1) from the others (1)."""
    from sklearn.base import is_outlier_detector

    return bool(is_outlier_detector(estimator))


def _dot(color: str, label: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], marker="o", linestyle="", markersize=5, color=color, label=label)


def _ring(label: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D(
        [], [], marker="o", linestyle="", markersize=6, markerfacecolor="none", markeredgecolor="black", label=label
    )
