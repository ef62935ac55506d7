"""The picture of a learning curve: scikit-learn's own, from models of all sizes trained side by side."""

from __future__ import annotations

from typing import Any, Self

from sklearn import model_selection as reference

from daskml_core.drawing import pyplot
from daskml_core.model_selection._learning import learning_curve


class LearningCurveDisplay(reference.LearningCurveDisplay):
    """Training and test scores over the number of training rows; scikit-learn's, for lazy data.

    Parameters
    ----------
    train_sizes : ndarray (n_sizes,)
    train_scores, test_scores : ndarray (n_sizes, n_splits)
    score_name : str, optional

    Attributes
    ----------
    ax_, figure_, lines_, fill_between_, errorbar_ : of matplotlib, after `plot`.

    Examples
    --------
    >>> import dask.array as da
    >>> from daskml_core.linear_model import LogisticRegression
    >>> from daskml_core.model_selection import LearningCurveDisplay
    >>> X = da.random.default_rng(0).normal(size=(2_000, 3), chunks=(500, 3))
    >>> display = LearningCurveDisplay.from_estimator(LogisticRegression(), X, X[:, 0] > 0, cv=3)
    >>> display.test_scores.shape
    (5, 3)
    """

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        groups: Any = None,
        train_sizes: Any = (0.1, 0.325, 0.55, 0.775, 1.0),
        cv: Any = None,
        scoring: Any = None,
        verbose: int = 0,
        shuffle: bool = False,
        random_state: Any = None,
        error_score: Any = float("nan"),
        params: dict[str, Any] | None = None,
        score_name: str | None = None,
        negate_score: bool = False,
        **drawing: Any,
    ) -> Self:
        """The curve of an estimator on X and y in any container: all sizes of all folds in the sweeps of about one fit.

        Parameters
        ----------
        groups, train_sizes, cv, scoring, verbose, shuffle, random_state, error_score, params : as in `learning_curve`.
        score_name : str, optional
            On the y axis; made of ``scoring`` by default.
        negate_score : bool, default=False
            Draw errors that are scored by their negative as errors.
        **drawing : ``ax``, ``score_type``, ``std_display_style``, ``line_kw``, ``fill_between_kw``, ``errorbar_kw``.
        """
        pyplot(cls.__name__)
        sizes, train, test = learning_curve(
            estimator, X, y, groups=groups, train_sizes=train_sizes, cv=cv, scoring=scoring, verbose=verbose,
            shuffle=shuffle, random_state=random_state, error_score=error_score, params=params,
        )  # fmt: skip
        name = score_name or _name_of(scoring, negate_score)
        display = cls(train_sizes=sizes, train_scores=train, test_scores=test, score_name=name)
        drawing.setdefault("fill_between_kw", {"alpha": 0.2})
        drawing.setdefault("line_kw", {"marker": "o", "markersize": 4})
        if drawing.get("std_display_style") == "errorbar":
            drawing["line_kw"] = drawing["fill_between_kw"] = None
        return display.plot(negate_score=negate_score, **drawing)


def _name_of(scoring: Any, negate: bool) -> str:
    """Words for the y axis.

    >>> _name_of("neg_log_loss", True), _name_of("neg_log_loss", False), _name_of(None, False)
    ('Log loss', 'Negative log loss', 'Score')
    """
    name = scoring if isinstance(scoring, str) else getattr(scoring, "__name__", None)
    if name is None:
        return "Negative score" if negate else "Score"
    if name.startswith("neg_"):
        name = name.removeprefix("neg_") if negate else f"negative_{name.removeprefix('neg_')}"
    elif negate:
        name = f"negative_{name}"
    return str(name).replace("_", " ").capitalize()
