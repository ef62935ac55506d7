"""Linear models that choose their own penalty, against scikit-learn's."""

import dask.array as da
import numpy as np
import pytest
from sklearn import datasets
from sklearn import linear_model as reference
from sklearn import model_selection as theirs
from sklearn.exceptions import ConvergenceWarning

from daskml_core.linear_model import ElasticNetCV, LassoCV, LogisticRegressionCV, RidgeCV
from tests.problems import three_classes, two_classes


def lazy(a, chunk=61):
    return da.from_array(a, chunks=(chunk, *a.shape[1:]))


X, Y = datasets.load_diabetes(return_X_y=True, scaled=False)
W = np.random.default_rng(0).random(len(Y)) + 0.1
ALPHAS = np.logspace(-2, 4, 7)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_leave_one_out_of_ridge_equals_scikit_learn(fit_intercept):
    options = {"alphas": ALPHAS, "fit_intercept": fit_intercept}
    found, expected = RidgeCV(**options).fit(lazy(X), Y), reference.RidgeCV(**options).fit(X, Y)
    assert found.alpha_ == expected.alpha_
    np.testing.assert_allclose(found.best_score_, expected.best_score_, rtol=1e-9)
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-7)
    assert found.n_sweeps_ == 2


@pytest.mark.parametrize("weighted", [False, True])
def test_leave_one_out_is_what_leaving_each_row_out_gives(weighted):
    x, y = X[:60], Y[:60]
    w = W[:60] if weighted else None
    found = RidgeCV(alphas=[0.5, 50.0]).fit(lazy(x, 7), y, sample_weight=w)
    for alpha, score in zip([0.5, 50.0], found.scores_, strict=True):
        errors = []
        for train, test in theirs.LeaveOneOut().split(x):
            model = reference.Ridge(alpha).fit(x[train], y[train], None if w is None else w[train])
            errors.append(float((model.predict(x[test])[0] - y[test][0]) ** 2) * (1.0 if w is None else w[test][0]))
        np.testing.assert_allclose(score, -np.mean(errors), rtol=1e-8)


def test_several_targets_share_the_sweeps():
    T = np.column_stack([Y, X[:, 0] * 3 - Y])
    found, expected = RidgeCV(alphas=ALPHAS).fit(lazy(X), lazy(T)), reference.RidgeCV(alphas=ALPHAS).fit(X, T)
    assert found.alpha_ == expected.alpha_
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-7)
    np.testing.assert_allclose(found.best_score_, expected.best_score_, rtol=1e-9)


@pytest.mark.parametrize("scoring", [None, "neg_mean_squared_error"])
def test_ridge_by_folds_takes_one_sweep(scoring):
    options = {"alphas": ALPHAS, "cv": theirs.KFold(4, shuffle=True, random_state=0), "scoring": scoring}
    found, expected = RidgeCV(**options).fit(lazy(X), Y), reference.RidgeCV(**options).fit(X, Y)
    assert found.alpha_ == expected.alpha_
    np.testing.assert_allclose(found.best_score_, expected.best_score_, rtol=1e-9)
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-7)
    assert found.n_sweeps_ == 1


@pytest.mark.parametrize(
    "options", [{}, {"positive": True}, {"fit_intercept": False}, {"cv": 3}, {"alphas": [3.0, 0.1, 1.0]}]
)
def test_lasso_path_equals_scikit_learn(options):
    standard = (X - X.mean(axis=0)) / X.std(axis=0)
    given = {"alphas": 30, "tol": 1e-7, "max_iter": 10_000} | options
    found, expected = LassoCV(**given).fit(lazy(standard), Y), reference.LassoCV(**given).fit(standard, Y)
    np.testing.assert_allclose(found.alphas_, expected.alphas_, rtol=1e-9)
    np.testing.assert_allclose(found.mse_path_, expected.mse_path_, rtol=1e-5)
    np.testing.assert_allclose(found.alpha_, expected.alpha_, rtol=1e-9)
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-4, atol=1e-3)
    assert found.n_sweeps_ == 1


@pytest.mark.parametrize("weighted", [False, True])
def test_elastic_net_over_several_ratios_equals_scikit_learn(weighted):
    standard = (X - X.mean(axis=0)) / X.std(axis=0)
    w = W if weighted else None
    options = {"l1_ratio": [0.3, 0.9], "alphas": 15, "tol": 1e-7, "max_iter": 10_000, "cv": 4}
    found = ElasticNetCV(**options).fit(lazy(standard), Y, sample_weight=w)
    expected = reference.ElasticNetCV(**options).fit(standard, Y, sample_weight=w)
    np.testing.assert_allclose(found.alphas_, expected.alphas_, rtol=1e-9)
    if not weighted:  # scikit-learn weighs the mean over folds, and errors, in a way of its own
        np.testing.assert_allclose(found.mse_path_, expected.mse_path_, rtol=1e-5)
        assert found.l1_ratio_ == expected.l1_ratio_
        np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-4, atol=1e-3)


def test_a_path_that_is_cut_short_warns_once():
    with pytest.warns(ConvergenceWarning, match="did not converge in 20 passes") as caught:
        LassoCV(max_iter=20, tol=1e-12, alphas=5, eps=1e-6).fit(X, Y)
    assert len(caught) == 1


def test_logistic_regression_cv_equals_scikit_learn():
    x, y = two_classes(n=600)
    Cs = np.logspace(-3, 2, 6)
    found = LogisticRegressionCV(Cs=Cs, cv=4, tol=1e-10, scoring="neg_log_loss").fit(lazy(x), lazy(y))
    expected = reference.LogisticRegressionCV(
        Cs=Cs, cv=4, tol=1e-10, scoring="neg_log_loss", solver="newton-cholesky", max_iter=1000, l1_ratios=(0,),
        use_legacy_attributes=False,
    ).fit(x, y)  # fmt: skip
    assert found.C_ == expected.C_
    np.testing.assert_allclose(found.scores_, expected.scores_, rtol=1e-8)
    np.testing.assert_allclose(found.coefs_paths_, expected.coefs_paths_, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-7)
    np.testing.assert_allclose(found.score(lazy(x), lazy(y)), expected.score(x, y), rtol=1e-9)
    assert found.n_sweeps_ == 2
    assert found.plan(lazy(x), y).n_models == 24


def test_without_a_refit_coefficients_are_the_mean_over_folds():
    x, y = three_classes(n=600)
    found = LogisticRegressionCV(Cs=[0.1, 1.0], l1_ratios=[0.0, 0.5], cv=3, refit=False, tol=1e-9).fit(lazy(x), y)
    k, j = list(found.l1_ratios_).index(found.l1_ratio_), list(found.Cs_).index(found.C_)
    assert found.scores_.shape == (3, 2, 2)
    np.testing.assert_allclose(found.coef_, found.coefs_paths_[:, k, j, :, :-1].mean(axis=0))
    assert set(found.predict(x)) <= set(found.classes_)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (RidgeCV(alphas=[0.0]), "alphas must be a positive"),
        (RidgeCV(scoring="accuracy", cv=3), "scoring must be"),
        (ElasticNetCV(l1_ratio=0.0), "no largest alpha"),
        (LogisticRegressionCV(Cs=[]), "at least one number"),
    ],
)
def test_what_makes_no_sense_is_refused(model, message):
    with pytest.raises(ValueError, match=message):
        model.fit(X, (Y > 100).astype(int))
