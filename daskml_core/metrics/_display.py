"""Pictures of metrics: scikit-learn's own Display classes, filled by sweeps instead of arrays in memory.

What is drawn from reduced arrays (``ConfusionMatrixDisplay(matrix).plot()``) is scikit-learn's code. What is new is how
lazy data is reduced to them: counts of label pairs, ranked scores, counts of errors on a grid; rows never reach the client.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn import metrics as reference
from sklearn.base import is_classifier, is_regressor

from daskml_core.data import flatten, is_grid
from daskml_core.drawing import axes_for, palette, pyplot
from daskml_core.engine import find_complete, run_sweeps
from daskml_core.kernels.residuals import ERROR_COUNTS, SPREAD, ErrorCounts, ErrorGrid, Spread, merge_spread
from daskml_core.metrics._classification import _counts
from daskml_core.metrics._curves import RankedScores, rank
from daskml_core.metrics._pairs import load_pairs
from daskml_core.metrics._probability import MAX_DISTINCT
from daskml_core.responses import respond, scores_for_curve
from daskml_core.sweep import Array, Sweep
from daskml_core.validate import positive_integer


class ConfusionMatrixDisplay(reference.ConfusionMatrixDisplay):
    """A confusion matrix as a picture; scikit-learn's, for lazy data.

    Parameters
    ----------
    confusion_matrix : ndarray (n_classes, n_classes)
        Rows are true labels, columns predicted ones.
    display_labels : sequence, optional

    Attributes
    ----------
    ax_, figure_, im_, text_ : of matplotlib, after `plot`.

    Examples
    --------
    >>> import dask.array as da
    >>> from daskml_core.metrics import ConfusionMatrixDisplay
    >>> truth = da.from_array(["sea", "land", "land"], chunks=2)
    >>> display = ConfusionMatrixDisplay.from_predictions(truth, da.from_array(["sea", "sea", "land"], chunks=1))
    >>> display.confusion_matrix.tolist(), display.display_labels.tolist()
    ([[1, 1], [0, 1]], ['land', 'sea'])
    """

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        labels: Any = None,
        sample_weight: Any = None,
        normalize: str | None = None,
        display_labels: Any = None,
        **drawing: Any,
    ) -> Self:
        """The matrix of a fitted classifier on X and y in any container; one sweep over both.

        Parameters
        ----------
        normalize : {"true", "pred", "all"}, optional
        **drawing : ``include_values``, ``xticks_rotation``, ``values_format``, ``cmap``, ``ax``, ``colorbar``, ``im_kw``,
            ``text_kw`` of `plot`.
        """
        if not is_classifier(estimator):
            raise ValueError(f"{cls.__name__}.from_estimator only supports classifiers")
        return cls.from_predictions(
            y,
            respond(estimator, X),
            labels=labels,
            sample_weight=sample_weight,
            normalize=normalize,
            display_labels=display_labels,
            **drawing,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        *,
        labels: Any = None,
        sample_weight: Any = None,
        normalize: str | None = None,
        display_labels: Any = None,
        **drawing: Any,
    ) -> Self:
        """The matrix of true and predicted labels in any container; one sweep. Options as in `from_estimator`."""
        pyplot(cls.__name__)
        truth, prediction, weight = _counts(y_true, y_pred, sample_weight)
        return super().from_predictions(
            truth,
            prediction,
            labels=labels,
            sample_weight=weight,
            normalize=normalize,
            display_labels=display_labels,
            **drawing,
        )


def _scores_of(estimator: Any, X: Any, response_method: str, pos_label: Any, name: str | None) -> dict[str, Any]:
    """What ``from_predictions`` is to be told of a fitted classifier."""
    scores, pos_label, classes = scores_for_curve(estimator, X, response_method, pos_label)
    name = type(estimator).__name__ if name is None else name
    return {"y_score": scores, "pos_label": pos_label, "classes": classes if len(classes) > 2 else None, "name": name}


def _rank_folds(
    cv_results: Any, X: Any, y: Any, sample_weight: Any, response_method: str, pos_label: Any, max_distinct: int
) -> list[RankedScores]:
    """Ranked scores of each fold's model on the rows that it has not seen."""
    from daskml_core.model_selection._folds import n_rows_of
    from daskml_core.model_selection._select import take_rows

    if not {"estimator", "indices"} <= set(cv_results):
        raise ValueError(
            "cv_results lacks models or row numbers: pass return_estimator=True and return_indices=True to cross_validate."
        )
    if is_grid(X):
        # Without the names of dimensions: each model has its own idea of which holds the features.
        last = cv_results["estimator"][0]
        last = last[-1] if hasattr(last, "steps") else last
        dim = getattr(last, "_feature_dim", None)
        flat = flatten(X, y, sample_weight, find_complete=find_complete, feature_dim=dim)
        X, y, sample_weight = flat.X.data, flat.y, flat.sample_weight
    n, found = n_rows_of(X), []
    for estimator, test in zip(cv_results["estimator"], cv_results["indices"]["test"], strict=True):
        mask = np.zeros(n, dtype=bool)
        mask[test] = True
        scores, label, classes = scores_for_curve(estimator, take_rows(X, mask), response_method, pos_label)
        if len(classes) > 2:
            raise ValueError(f"Curves of folds are of two classes, the models know {classes}.")
        weight = take_rows(sample_weight, mask)
        truth = take_rows(y, mask)
        found += rank(truth, scores, sample_weight=weight, pos_label=label, max_distinct=max_distinct)
    return found


class _CurveDisplay:
    """What curves of ranked scores do alike, whatever is drawn of the ranks."""

    @staticmethod
    def _curves(ranked: Sequence[RankedScores], drop_intermediate: bool) -> dict[str, list[Any]]:
        """Arguments of the display, a value a curve."""
        raise NotImplementedError

    @classmethod
    def _of_columns(
        cls: Any, y_true: Any, y_score: Any, sample_weight: Any, drop_intermediate: bool, pos_label: Any,
        classes: Sequence[Any] | None, name: str | None, max_distinct: int, drawing: dict[str, Any],
    ) -> Any:  # fmt: skip
        """The curve of one column of scores, or one a class, each in a colour of its own."""
        pyplot(cls.__name__)
        ranked = rank(
            y_true,
            y_score,
            sample_weight=sample_weight,
            pos_label=pos_label,
            classes=classes,
            max_distinct=max_distinct,
        )
        curves = cls._curves(ranked, drop_intermediate)
        if getattr(y_score, "ndim", 1) == 1 or (classes is None and len(ranked) == 1):
            single = {key: values[0] for key, values in curves.items()}
            display = cls(**single, name="Classifier" if name is None else name, pos_label=ranked[0].label)
            return display.plot(**drawing)
        if drawing.get("curve_kwargs") is None:
            colors = palette(len(ranked))
            drawing["curve_kwargs"] = [{"color": color, "linestyle": "-", "alpha": 1.0} for color in colors]
        prefix = "" if name is None else f"{name}: "
        return cls(**curves, name=[f"{prefix}{one.label}" for one in ranked], pos_label=None).plot(**drawing)

    @classmethod
    def from_cv_results(
        cls: Any,
        cv_results: Any,
        X: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        drop_intermediate: bool = True,
        response_method: str = "auto",
        pos_label: Any = None,
        name: Any = None,
        max_distinct: int = MAX_DISTINCT,
        **drawing: Any,
    ) -> Any:
        """A curve a fold, of what ``cross_validate(return_estimator=True, return_indices=True)`` found; a sweep a fold.

        X, y and weights in any container. ``**drawing`` : of `plot`.
        """
        pyplot(cls.__name__)
        folds = _rank_folds(cv_results, X, y, sample_weight, response_method, pos_label, max_distinct)
        return cls(**cls._curves(folds, drop_intermediate), name=name, pos_label=folds[0].label).plot(**drawing)


class RocCurveDisplay(_CurveDisplay, reference.RocCurveDisplay):
    """A ROC curve, or one a class; scikit-learn's, for lazy data.

    Parameters
    ----------
    fpr, tpr : ndarray, or a list of them for several curves
    roc_auc : float, or a list, optional
    name : str, or a list, optional
    pos_label : label, optional

    Attributes
    ----------
    ax_, figure_, line_, chance_level_ : of matplotlib, after `plot`.

    Notes
    -----
    The curve has every distinct score as a threshold, exactly, up to ``max_distinct`` of them (4 million, 24 bytes each);
    beyond that close scores are merged, and a warning states the bound on the area's error. One sweep over y for its labels,
    one over y and the scores.

    Examples
    --------
    >>> import dask.array as da
    >>> from daskml_core.linear_model import LogisticRegression
    >>> from daskml_core.metrics import RocCurveDisplay
    >>> X = da.random.default_rng(0).normal(size=(1_000, 2), chunks=(250, 2))
    >>> y = X[:, 0] > 0
    >>> model = LogisticRegression().fit(X, y)
    >>> bool(RocCurveDisplay.from_estimator(model, X, y).roc_auc > 0.99)
    True
    """

    @staticmethod
    def _curves(ranked: Sequence[RankedScores], drop_intermediate: bool) -> dict[str, list[Any]]:
        curves = [one.roc(drop_intermediate) for one in ranked]
        return {
            "fpr": [fpr for fpr, _, _ in curves],
            "tpr": [tpr for _, tpr, _ in curves],
            "roc_auc": [reference.auc(fpr, tpr) for fpr, tpr, _ in curves],
        }

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        drop_intermediate: bool = True,
        response_method: str = "auto",
        pos_label: Any = None,
        name: str | None = None,
        max_distinct: int = MAX_DISTINCT,
        **drawing: Any,
    ) -> Self:
        """The curve of a fitted classifier on X and y in any container.

        With more than two classes there is a curve a class, against the rest, all from the same sweep.

        Parameters
        ----------
        drop_intermediate : bool, default=True
            Leave out points on a straight line between their neighbours.
        response_method : {"auto", "predict_proba", "decision_function"}
        pos_label : label, optional
            Of two classes; the second by default.
        name : str, optional
            The estimator's by default.
        max_distinct : int, default=4_000_000
        **drawing : ``ax``, ``curve_kwargs``, ``plot_chance_level``, ``chance_level_kw``, ``despine`` of `plot`.
        """
        pyplot(cls.__name__)
        return cls.from_predictions(
            y, **_scores_of(estimator, X, response_method, pos_label, name), sample_weight=sample_weight,
            drop_intermediate=drop_intermediate, max_distinct=max_distinct, **drawing,
        )  # fmt: skip

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_score: Any,
        *,
        sample_weight: Any = None,
        drop_intermediate: bool = True,
        pos_label: Any = None,
        classes: Sequence[Any] | None = None,
        name: str | None = None,
        max_distinct: int = MAX_DISTINCT,
        **drawing: Any,
    ) -> Self:
        """The curve of true labels and scores in any container; (n_rows, n_classes) scores give a curve a class.

        Parameters
        ----------
        classes : sequence, optional
            Labels of the columns of scores; those of y, sorted, by default.
        """
        return cls._of_columns(
            y_true, y_score, sample_weight, drop_intermediate, pos_label, classes, name, max_distinct, drawing
        )


class PrecisionRecallDisplay(_CurveDisplay, reference.PrecisionRecallDisplay):
    """Precision over recall, or a curve a class; scikit-learn's, for lazy data.

    Parameters
    ----------
    precision, recall : ndarray, or a list of them for several curves
    average_precision, prevalence_pos_label : float, or a list, optional
    name : str, or a list, optional
    estimator_name : deprecated by scikit-learn: pass ``name``
    pos_label : label, optional

    Attributes
    ----------
    ax_, figure_, line_, chance_level_ : of matplotlib, after `plot`.

    Notes
    -----
    Thresholds and sweeps as in `RocCurveDisplay`.

    Examples
    --------
    >>> import dask.array as da
    >>> from daskml_core.metrics import PrecisionRecallDisplay
    >>> display = PrecisionRecallDisplay.from_predictions(da.arange(4, chunks=3) > 1, [0.1, 0.4, 0.35, 0.8])
    >>> round(display.average_precision, 4)
    0.8333
    """

    @staticmethod
    def _curves(ranked: Sequence[RankedScores], drop_intermediate: bool) -> dict[str, list[Any]]:
        curves = [one.precision_recall(drop_intermediate) for one in ranked]
        return {
            "precision": [precision for precision, _, _ in curves],
            "recall": [recall for _, recall, _ in curves],
            "average_precision": [one.average_precision() for one in ranked],
            "prevalence_pos_label": [one.prevalence for one in ranked],
        }

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        drop_intermediate: bool = False,
        response_method: str = "auto",
        pos_label: Any = None,
        name: str | None = None,
        max_distinct: int = MAX_DISTINCT,
        **drawing: Any,
    ) -> Self:
        """The curve of a fitted classifier on X and y in any container. Parameters as `RocCurveDisplay.from_estimator`."""
        pyplot(cls.__name__)
        return cls.from_predictions(
            y, **_scores_of(estimator, X, response_method, pos_label, name), sample_weight=sample_weight,
            drop_intermediate=drop_intermediate, max_distinct=max_distinct, **drawing,
        )  # fmt: skip

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_score: Any,
        *,
        sample_weight: Any = None,
        drop_intermediate: bool = False,
        pos_label: Any = None,
        classes: Sequence[Any] | None = None,
        name: str | None = None,
        max_distinct: int = MAX_DISTINCT,
        **drawing: Any,
    ) -> Self:
        """The curve of true labels and scores in any container; (n_rows, n_classes) scores give a curve a class."""
        return cls._of_columns(
            y_true, y_score, sample_weight, drop_intermediate, pos_label, classes, name, max_distinct, drawing
        )


class ResidualsDisplay:
    """Errors of a regression over its predictions, as counts on a grid: every row is in the picture.

    A scatter plot of all rows cannot be drawn, and one of a sample hides what is rare. Two sweeps: one for the ranges, one
    for the counts.

    Parameters
    ----------
    counts : ndarray (n_x, n_y)
        Rows, or their weight, in each bin.
    x_edges : ndarray (n_x + 1,)
        Of predictions.
    y_edges : ndarray (n_y + 1,)
        Of residuals (truth minus prediction), or of the truth.
    kind : {"residual_vs_predicted", "actual_vs_predicted"}
    mean, deviation : ndarray (n_x,), optional
        Of y in each bin of x; NaN where a bin is empty.
    n_outside : float, default=0
        Rows beyond the edges, which count in the outermost bins.

    Attributes
    ----------
    ax_, figure_ : of matplotlib, after `plot`.
    image_, line_, mean_, band_, colorbar_ : artists or ``None``.

    Examples
    --------
    >>> import dask.array as da
    >>> from daskml_core.linear_model import LinearRegression
    >>> from daskml_core.metrics import ResidualsDisplay
    >>> X = da.random.default_rng(0).normal(size=(1_000, 2), chunks=(250, 2))
    >>> y = X[:, 0] + X[:, 1] ** 2
    >>> display = ResidualsDisplay.from_estimator(LinearRegression().fit(X, y), X, y)
    >>> int(display.counts.sum())
    1000
    """

    def __init__(
        self,
        counts: Array,
        x_edges: Array,
        y_edges: Array,
        *,
        kind: str = "residual_vs_predicted",
        mean: Array | None = None,
        deviation: Array | None = None,
        n_outside: float = 0.0,
    ) -> None:
        self.counts = counts
        self.x_edges = x_edges
        self.y_edges = y_edges
        self.kind = kind
        self.mean = mean
        self.deviation = deviation
        self.n_outside = n_outside

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, y: Any, *, sample_weight: Any = None, **options: Any) -> Self:
        """The errors of a fitted regression on X and y in any container; options as in `from_predictions`."""
        if not is_regressor(estimator):
            raise ValueError(f"{cls.__name__} needs a regression, {type(estimator).__name__} is none.")
        return cls.from_predictions(y, respond(estimator, X), sample_weight=sample_weight, **options)

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        *,
        sample_weight: Any = None,
        kind: str = "residual_vs_predicted",
        bins: int | tuple[int, int] = (80, 60),
        n_deviations: float = 5.0,
        plot: bool = True,
        **drawing: Any,
    ) -> Self:
        """The errors of true and predicted numbers (n_rows,) in any container.

        Parameters
        ----------
        kind : {"residual_vs_predicted", "actual_vs_predicted"}
        bins : int or pair of int
            Of x and y.
        n_deviations : float, default=5
            The grid ends where the data ends, or so many standard deviations from the mean, so that a few rows far out do
            not press all others into one bin; rows beyond are counted in the outermost bins, and the picture says how many.
        plot : bool, default=True
            Whether to draw at once.
        **drawing : of `plot`.
        """
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {list(KINDS)}, got {kind!r}.")
        n_x, n_y = (positive_integer("bins", n) for n in (bins if isinstance(bins, tuple | list) else (bins, bins)))
        pairs = load_pairs(y_true, y_pred, sample_weight)
        assert pairs.y is not None
        if pairs.y.dtype["t"].shape or pairs.y.dtype["p"].shape:
            raise ValueError(f"{cls.__name__} draws one target. Take one, e.g. y[:, 0].")
        ranges: Spread
        (ranges,) = run_sweeps(pairs, Sweep(SPREAD, None, merge_spread))
        if not ranges.weight > 0:
            raise ValueError(f"The sample weights sum to zero ({ranges.weight:g}); at least one must be positive.")
        truth = kind == "actual_vs_predicted"
        grid = ErrorGrid(
            _edges(ranges, 0, n_x, n_deviations), _edges(ranges, 1 if truth else 2, n_y, n_deviations), truth
        )
        found: ErrorCounts
        (found,) = run_sweeps(pairs, Sweep(ERROR_COUNTS, grid))
        weight = found.counts.sum(axis=1)
        safe = np.where(weight > 0, weight, np.nan)
        shifted = found.sums[0] / safe
        display = cls(
            found.counts,
            grid.x_edges,
            grid.y_edges,
            kind=kind,
            mean=shifted + 0.5 * (grid.y_edges[0] + grid.y_edges[-1]),
            deviation=np.sqrt(np.maximum(found.sums[1] / safe - shifted**2, 0.0)),
            n_outside=found.outside,
        )
        return display.plot(**drawing) if plot else display

    def plot(
        self,
        ax: Any = None,
        *,
        cmap: Any = "Blues",
        log: bool = True,
        colorbar: bool = True,
        title: str | None = None,
        line_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Draw counts as colours, the line where predictions are right, and the mean with a band of one deviation.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        log : bool, default=True
            Colours by the logarithm of the counts.
        line_kw : dict, optional
            Of the line where predictions are right.

        Returns self, with the artists as attributes.
        """
        ax = axes_for(type(self).__name__, ax)
        from matplotlib.colors import LogNorm

        shown = np.ma.masked_less_equal(np.asarray(self.counts, dtype=np.float64), 0.0)
        low, high = (float(shown.min()), float(shown.max())) if shown.count() else (1.0, 1.0)
        # A single row must still be seen: colours begin below it.
        norm = LogNorm(low / 3, high) if log and high > low else None
        self.image_ = ax.pcolormesh(self.x_edges, self.y_edges, shown.T, cmap=cmap, norm=norm, rasterized=True)
        middles = 0.5 * (np.asarray(self.x_edges)[1:] + np.asarray(self.x_edges)[:-1])
        self.mean_ = self.band_ = None
        if self.mean is not None:
            (self.mean_,) = ax.plot(middles, self.mean, color="#D55E00", linewidth=1.6, label="mean")
            if self.deviation is not None:
                low_side, high_side = self.mean - self.deviation, self.mean + self.deviation
                self.band_ = ax.plot(
                    middles, np.column_stack([low_side, high_side]), color="#D55E00", linewidth=1.1, linestyle="dotted"
                )
                self.band_[0].set_label("± one deviation")
        ends = np.array([self.x_edges[0], self.x_edges[-1]])
        right = ends if self.kind == "actual_vs_predicted" else np.zeros(2)
        style = {"color": "0.15", "linewidth": 1.0, "linestyle": "dashed"} | (line_kw or {})
        (self.line_,) = ax.plot(ends, right, **style)
        ax.set_xlim(self.x_edges[0], self.x_edges[-1])
        ax.set_ylim(self.y_edges[0], self.y_edges[-1])
        ax.set(xlabel="Predicted values", ylabel=KINDS[self.kind])
        if self.n_outside:
            ax.annotate(
                f"{self.n_outside:,.0f} rows lie beyond the edges", (0.99, 0.01), xycoords="axes fraction",
                ha="right", va="bottom", fontsize="small", color="0.3",
            )  # fmt: skip
        if title is not None:
            ax.set_title(title)
        if self.mean is not None:
            ax.legend(loc="upper left", fontsize="small", framealpha=0.9)
        self.colorbar_ = None
        if colorbar:
            self.colorbar_ = ax.figure.colorbar(self.image_, ax=ax, label="rows in a bin")
            if norm is not None:
                from matplotlib.ticker import LogLocator, NullFormatter

                self.colorbar_.ax.set_ylim(low, high)
                self.colorbar_.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
                self.colorbar_.ax.yaxis.set_major_formatter("{x:,g}")
                self.colorbar_.ax.yaxis.set_minor_formatter(NullFormatter())
        self.ax_, self.figure_ = ax, ax.figure
        return self


KINDS = {"residual_vs_predicted": "Residuals (actual - predicted)", "actual_vs_predicted": "Actual values"}


def _edges(ranges: Spread, column: int, n: int, n_deviations: float) -> Array:
    """Edges of ``n`` bins over a column's range, or the middle of it where a few rows lie far out."""
    deviation = float(np.sqrt(ranges.scatter[column] / ranges.weight))
    mean = float(ranges.mean[column])
    low = max(float(ranges.smallest[column]), mean - n_deviations * deviation)
    high = min(float(ranges.largest[column]), mean + n_deviations * deviation)
    if not high > low:  # all values alike
        room = max(abs(low), 1.0) * 0.5
        low, high = low - room, high + room
    return np.linspace(low, high, n + 1)
