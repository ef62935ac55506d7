"""The picture of a linear model's coefficients over its penalty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np

from daskml_core.data import is_grid
from daskml_core.drawing import axes_for, palette
from daskml_core.sweep import Array


class CoefficientPathDisplay:
    """Coefficients of a linear model over a parameter, a line a feature: what the penalty shrinks, and what it leaves.

    Parameters
    ----------
    values : ndarray (n_values,)
        Of the parameter, ascending.
    coefficients : ndarray (n_values, n_features)
    parameter : str, default="alpha"
    feature_names : sequence of str, optional
    chosen : float, optional
        The value that was chosen, drawn as a vertical line.

    Attributes
    ----------
    ax_, figure_ : of matplotlib, after `plot`.
    lines_ : list of artists, one a feature.
    chosen_ : artist or ``None``.

    Examples
    --------
    >>> import dask.array as da
    >>> from daskml_core.linear_model import CoefficientPathDisplay, Lasso
    >>> X = da.random.default_rng(0).normal(size=(1_000, 3), chunks=(250, 3))
    >>> display = CoefficientPathDisplay.from_estimator(Lasso(), X, 2 * X[:, 0] + X[:, 1], values=[0.1, 1.0, 10.0])
    >>> display.coefficients.round().astype(int).tolist()
    [[2, 1, 0], [1, 0, 0], [0, 0, 0]]
    """

    def __init__(
        self,
        values: Array,
        coefficients: Array,
        *,
        parameter: str = "alpha",
        feature_names: Sequence[str] | None = None,
        chosen: float | None = None,
    ) -> None:
        self.values = values
        self.coefficients = coefficients
        self.parameter = parameter
        self.feature_names = feature_names
        self.chosen = chosen

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any = None,
        y: Any = None,
        *,
        parameter: str | None = None,
        values: Any = None,
        target: Any = None,
        feature_names: Sequence[str] | None = None,
        params: dict[str, Any] | None = None,
        plot: bool = True,
        **drawing: Any,
    ) -> Self:
        """The path of a linear model: of one that is fitted for every value, or of a `LogisticRegressionCV`'s folds.

        Parameters
        ----------
        estimator : a linear model, fitted or not, or a pipeline that ends in one; it is not changed. All values are trained
            side by side, in about the sweeps of one fit. Or a fitted `LogisticRegressionCV`, without X: the mean over its
            folds, nothing is read.
        X, y : in any container.
        parameter : str, optional
            ``"alpha"`` or ``"C"`` by default, whichever there is; ``step__alpha`` of a pipeline.
        values : array, optional
            40 values by default, spread by their logarithm: six decades around the model's own.
        target : label or int, optional
            Class of a classifier of more than two, or number of one of several targets.
        params : dict, optional
            For the fits, e.g. ``sample_weight``.
        plot : bool, default=True
        **drawing : of `plot`.

        Raises
        ------
        ValueError : no penalty that can be varied, several targets and none named.
        """
        if X is None and hasattr(estimator, "coefs_paths_"):
            display = cls(*_of_search(estimator, target), parameter="C", chosen=estimator.C_)
            display.feature_names = feature_names or _names(estimator)
            return display.plot(**drawing) if plot else display
        if X is None or y is None:
            raise ValueError("X and y are needed: a fitted model has one set of coefficients, and no path.")
        parameter = parameter or _penalty_of(estimator)
        own = estimator.get_params()[parameter]
        grid = _default_values(own) if values is None else np.sort(np.asarray(values, dtype=np.float64))
        models = _fit_all(estimator, parameter, grid, X, y, params or {})
        last = [model[-1] if hasattr(model, "steps") else model for model in models]
        table = np.array([_row_of(model, target) for model in last])
        display = cls(
            grid,
            table,
            parameter=parameter,
            feature_names=feature_names or _names(models[0]),
            chosen=float(own) if hasattr(estimator, "n_features_in_") else None,
        )
        return display.plot(**drawing) if plot else display

    def plot(
        self,
        ax: Any = None,
        *,
        n_labels: int = 8,
        colors: Any = None,
        title: str | None = None,
        line_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Draw; the largest ``n_labels`` coefficients have colours and a place in the legend, all others are grey.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        n_labels : int, default=8
            By their largest absolute value along the path.
        colors : list or name of a colour map, optional
        line_kw : dict, optional

        Returns self, with the artists as attributes.
        """
        ax = axes_for(type(self).__name__, ax)
        table = np.asarray(self.coefficients)
        d = int(table.shape[1])
        order = np.argsort(-np.abs(table).max(axis=0), kind="stable")[: max(0, n_labels)]
        named = dict(zip(order.tolist(), palette(len(order), colors), strict=True))
        names = list(self.feature_names) if self.feature_names is not None else [f"feature {j}" for j in range(d)]
        if len(names) != d:
            raise ValueError(f"There are {len(names)} feature names for {d} coefficients.")
        style = {"linewidth": 1.4} | (line_kw or {})
        self.lines_ = []
        for j in range(d):
            look = {"color": named[j], "label": names[j]} if j in named else {"color": "0.75", "linewidth": 0.8}
            self.lines_ += ax.plot(self.values, table[:, j], **(style | look), zorder=3 if j in named else 2)
        ax.axhline(0.0, color="0.3", linewidth=0.8, zorder=1)
        self.chosen_ = None
        if self.chosen is not None and self.values[0] <= self.chosen <= self.values[-1]:
            self.chosen_ = ax.axvline(
                self.chosen, linestyle=":", color="0.3", label=f"{self.parameter} = {self.chosen:.3g}"
            )
        if np.min(self.values) > 0 and np.max(self.values) / np.min(self.values) > 20:
            ax.set_xscale("log")
        ax.set_xlim(self.values[0], self.values[-1])
        ax.set(xlabel=self.parameter, ylabel="coefficient")
        if title is not None:
            ax.set_title(title)
        handles, labels = ax.get_legend_handles_labels()
        if handles:
            # The legend in the order of size, not of columns.
            rank: dict[Any, int] = {names[j]: place for place, j in enumerate(order.tolist())}
            pairs = sorted(zip(labels, handles, strict=True), key=lambda pair: rank.get(pair[0], d))
            if len(order) < d:
                pairs.append((f"{d - len(order):,} more", _grey_line()))
            ax.legend([h for _, h in pairs], [label for label, _ in pairs], fontsize="small", framealpha=0.9)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _grey_line() -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color="0.75", linewidth=0.8)


def _names(model: Any) -> list[str] | None:
    names = getattr(model, "feature_names_in_", None)
    return None if names is None else [str(name) for name in names]


def _penalty_of(estimator: Any) -> str:
    found = [name for name in estimator.get_params() if name.split("__")[-1] in ("alpha", "C")]
    if len(found) != 1:
        raise ValueError(f"{type(estimator).__name__} has {found or 'no'} penalties to vary. Pass parameter=...")
    return found[0]


def _default_values(own: Any) -> Array:
    middle = float(own) if np.isfinite(own) and own > 0 else 1.0
    return middle * np.logspace(-3, 3, 40)


def _fit_all(estimator: Any, parameter: str, values: Array, X: Any, y: Any, params: dict[str, Any]) -> list[Any]:
    """A fitted model a value: one batch, on all rows."""
    from daskml_core.kernels.cells import Segments
    from daskml_core.model_selection._folds import Folds, n_rows_of
    from daskml_core.model_selection._learning import _Given
    from daskml_core.model_selection._run import Request, as_rows, run

    settings = [{parameter: float(value)} for value in values]
    request = Request(estimator, settings, X, y, params=params, error_score="raise")
    if is_grid(X):
        request, _ = as_rows(request)
    n = n_rows_of(request.X)
    whole = Folds(n, Segments(np.array([n])), np.ones((1, 1), dtype=bool), np.zeros((1, 1), dtype=bool))
    result = run(replace(request, cv=_Given(whole)))
    return [models[0] for models in result.models]


def _row_of(model: Any, target: Any) -> Array:
    """One row of coefficients (n_features,)."""
    coef = np.asarray(getattr(model, "coef_", ()))
    if not coef.size:
        raise ValueError(f"{type(model).__name__} has no coefficients.")
    if coef.ndim == 1 or len(coef) == 1:
        return np.ravel(coef)
    labels = model.classes_.tolist() if hasattr(model, "classes_") else list(range(len(coef)))
    if target not in labels:
        raise ValueError(f"There are coefficients for each of {labels}: pass target=, one of them, got {target!r}.")
    return np.asarray(coef[labels.index(target)])


def _of_search(model: Any, target: Any) -> tuple[Array, Array]:
    """C and mean coefficients over the folds of a `LogisticRegressionCV`, at the l1_ratio that it chose."""
    ratio = int(np.argmin(np.abs(np.asarray(model.l1_ratios_) - model.l1_ratio_)))
    paths = np.asarray(model.coefs_paths_)[:, ratio].mean(axis=0)  # (n_Cs, n_outputs, n_features + fit_intercept)
    row = 0
    if paths.shape[1] > 1:
        labels = model.classes_.tolist()
        if target not in labels:
            raise ValueError(f"There are coefficients for each of {labels}: pass target=, one of them, got {target!r}.")
        row = labels.index(target)
    order = np.argsort(model.Cs_)
    return np.asarray(model.Cs_)[order], paths[order, row, : model.n_features_in_]
