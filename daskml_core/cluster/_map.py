"""The picture of clusters or classes on a grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from daskml_core.data.kind import is_lazy
from daskml_core.drawing import MASKED, axes_for, palette
from daskml_core.sweep import Array


class ClusterMapDisplay:
    """Clusters or classes on a grid of two dimensions, a colour each; samples without one are grey.

    Parameters
    ----------
    codes : ndarray (n_y, n_x) of int
        Number of the class of each cell, -1 where there is none.
    classes : sequence of labels
    x, y : ndarray, optional
        Coordinates of the columns and the rows; numbers by default.
    x_name, y_name : str, optional
    names : dict, optional
        Words for labels in the legend; for ``None`` the word for cells without one.
    step : int, default=1
        Each so many-th cell is drawn.

    Attributes
    ----------
    ax_, figure_ : of matplotlib, after `plot`.
    mesh_ : artist.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from daskml_core.cluster import ClusterMapDisplay, KMeans
    >>> bands = np.random.default_rng(0).normal(size=(2, 20, 30)) + np.arange(30) // 15 * 8
    >>> image = xr.DataArray(bands, dims=("band", "y", "x")).chunk(y=10)
    >>> display = ClusterMapDisplay.from_estimator(KMeans(2, random_state=0).fit(image), image)
    >>> display.codes.shape, display.classes
    ((20, 30), [0, 1])
    """

    def __init__(
        self,
        codes: Array,
        *,
        classes: Sequence[Any],
        x: Array | None = None,
        y: Array | None = None,
        x_name: str | None = None,
        y_name: str | None = None,
        names: dict[Any, str] | None = None,
        step: int = 1,
    ) -> None:
        self.codes = codes
        self.classes = classes
        self.x = x
        self.y = y
        self.x_name = x_name
        self.y_name = y_name
        self.names = names
        self.step = step

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, **options: Any) -> Self:
        """The map of what a fitted clustering or classifier predicts for a grid X; options as in `from_predictions`.

        X is a DataArray or Dataset of two sample dimensions. Classes and clusters that nothing is assigned to keep their
        colours.
        """
        labels = estimator.predict(X)
        if "classes" not in options:
            if hasattr(estimator, "classes_"):
                options["classes"] = np.asarray(estimator.classes_).tolist()
            elif hasattr(estimator, "cluster_centers_"):
                options["classes"] = list(range(len(estimator.cluster_centers_)))
        return cls.from_predictions(labels, **options)

    @classmethod
    def from_predictions(
        cls,
        labels: Any,
        *,
        classes: Sequence[Any] | None = None,
        names: dict[Any, str] | None = None,
        x: str | None = None,
        max_cells: int = 1_000_000,
        plot: bool = True,
        **drawing: Any,
    ) -> Self:
        """The map of labels on a grid.

        Parameters
        ----------
        labels : DataArray (two dimensions), lazy or not, or an ndarray; NaN or ``None`` where there is none.
        classes : sequence, optional
            Labels in the order of their colours; those that are found, sorted, by default.
        names : dict, optional
            Words for labels; for ``None`` the word for cells without one.
        x : str, optional
            Dimension along the x axis; the last one by default, or the one that is called a longitude.
        max_cells : int, default=1_000_000
            Of a larger map each second, third, ... row and column is drawn, taken where the labels are computed: the client
            holds no more.
        plot : bool, default=True
        **drawing : of `plot`.

        Raises
        ------
        ValueError : other than two dimensions; more classes than can be told apart (256).
        """
        if getattr(labels, "ndim", 0) != 2:
            found = getattr(labels, "dims", getattr(labels, "shape", type(labels).__name__))
            raise ValueError(
                f"A map has two dimensions, labels have {found}. Take one time or level, e.g. .isel(time=0)."
            )
        step = max(1, int(np.ceil(np.sqrt(labels.size / max_cells))))
        coords: list[Any] = [None, None]
        dims: list[Any] = [None, None]
        if hasattr(labels, "dims"):
            across = x or _across(labels)
            if across not in labels.dims:
                raise ValueError(f"x={x!r} is not a dimension of the labels, which have {labels.dims}.")
            labels = labels.transpose(..., across)
            dims = [str(dim) for dim in labels.dims]
        elif x is not None:
            raise ValueError("x names a dimension, and labels have no names.")
        shown = labels[::step, ::step]
        if dims[0] is not None:
            coords = [_numbers(shown.coords[dim]) if dim in shown.coords else None for dim in dims]
        codes, found_classes = _encode(np.asarray(shown.compute() if is_lazy(shown) else shown), classes)
        display = cls(
            codes,
            classes=found_classes,
            x=coords[1],
            y=coords[0],
            x_name=dims[1],
            y_name=dims[0],
            names=names,
            step=step,
        )
        return display.plot(**drawing) if plot else display

    def plot(
        self,
        ax: Any = None,
        *,
        colors: Any = None,
        legend: bool = True,
        title: str | None = None,
        masked: str = MASKED,
        equal: bool | None = None,
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        colors : list or name of a colour map, optional
            A colour a class; eight that colour-blind readers can tell apart by default, a colour map beyond.
        legend : bool, default=True
            Names beside the map up to 20 classes, a colour bar beyond.
        masked : colour of cells without a class.
        equal : bool, optional
            Whether both axes have one scale; by default where both coordinates are numbers of one kind, or there are none.

        Returns self, with the artist as an attribute.
        """
        ax = axes_for(type(self).__name__, ax, (6.4, 4.4))
        from matplotlib.colors import BoundaryNorm, ListedColormap
        from matplotlib.patches import Patch

        n = len(self.classes)
        shades = palette(n, colors)
        n_y, n_x = np.shape(self.codes)
        x = np.arange(n_x) * self.step if self.x is None else self.x
        y = np.arange(n_y) * self.step if self.y is None else self.y
        shown = np.ma.masked_less(np.asarray(self.codes), 0)
        norm = BoundaryNorm(np.arange(max(n, 1) + 1) - 0.5, max(n, 1))
        ax.set_facecolor(masked)
        self.mesh_ = ax.pcolormesh(
            _borders(x), _borders(y), shown, cmap=ListedColormap(shades or [masked]), norm=norm, rasterized=True
        )
        if self.y is None:  # rows of an image go down
            ax.invert_yaxis()
        if equal if equal is not None else (self.x is None) == (self.y is None):
            ax.set_aspect("equal")
        if self.x_name is not None:
            ax.set_xlabel(self.x_name)
        if self.y_name is not None:
            ax.set_ylabel(self.y_name)
        if title is not None:
            ax.set_title(title)
        words = [(self.names or {}).get(label, str(label)) for label in self.classes]
        if legend and n <= 20:
            handles = [Patch(color=shade, label=word) for shade, word in zip(shades, words, strict=True)]
            if np.ma.is_masked(shown):
                handles.append(Patch(facecolor=masked, edgecolor="0.6", label=(self.names or {}).get(None, "none")))
            ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize="small", frameon=False)
        elif legend:
            ticks = np.linspace(0, n - 1, 9).round().astype(int)
            bar = ax.figure.colorbar(self.mesh_, ax=ax, ticks=ticks)
            bar.ax.set_yticklabels([words[k] for k in ticks])
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _across(labels: Any) -> str:
    """The dimension that goes along the x axis: a longitude or ``x``, else the last one."""
    named = [str(dim) for dim in labels.dims if str(dim).lower() in ("x", "lon", "longitude", "easting")]
    return named[0] if len(named) == 1 else str(labels.dims[-1])


def _numbers(coord: Any) -> Array | None:
    """Values of a coordinate that places can be drawn at, or ``None``."""
    values = np.asarray(coord.values)
    if values.dtype.kind not in "fiu" or not len(values):
        return None
    steps = np.diff(values.astype(np.float64))
    return values.astype(np.float64) if not len(steps) or (steps > 0).all() or (steps < 0).all() else None


def _borders(middles: Array) -> Array:
    """Edges (n + 1,) of cells around their middles (n,)."""
    middles = np.asarray(middles, dtype=np.float64)
    if len(middles) == 1:
        return np.array([middles[0] - 0.5, middles[0] + 0.5])
    inner = 0.5 * (middles[1:] + middles[:-1])
    return np.concatenate([[2 * middles[0] - inner[0]], inner, [2 * middles[-1] - inner[-1]]])


def _encode(labels: Array, classes: Sequence[Any] | None) -> tuple[Array, list[Any]]:
    """Numbers of the labels among the classes, -1 where there is none."""
    if labels.dtype.kind == "f":
        missing = np.isnan(labels)
    elif labels.dtype == object:
        missing = np.array([value is None or value != value for value in labels.ravel()]).reshape(labels.shape)
    else:
        missing = np.zeros(labels.shape, dtype=bool)
    found, place = np.unique(labels[~missing], return_inverse=True)
    if classes is None:
        whole = found.dtype.kind == "f" and (found == np.floor(found)).all()
        classes = (found.astype(np.int64) if whole else found).tolist()
        order = np.arange(len(found))
    else:
        known = {label: k for k, label in enumerate(classes)}
        strange = [label for label in found.tolist() if label not in known]
        if strange:
            raise ValueError(f"The map has labels {strange[:5]} that are not among classes={list(classes)[:20]}.")
        order = np.array([known[label] for label in found.tolist()], dtype=np.intp)
    if len(classes) > 256:
        raise ValueError(f"{len(classes)} classes cannot be told apart by their colours. Are these labels?")
    codes = np.full(labels.shape, -1, dtype=np.int32)
    codes[~missing] = order[place.reshape(-1)] if len(found) else 0
    return codes, list(classes)
