"""The rows of docs/migrating.md that say how penalties translate, checked: both sides fitted, coefficients compared.

``python benchmarks/migrating.py``; rows of what is not installed are left out with a word.
"""

from __future__ import annotations

import importlib.util
import shutil
import warnings

import dask.array as da
import numpy as np
from common import gate, table
from spark_session import spark_session

from daskml_core.linear_model import (
    ElasticNet,
    HuberRegressor,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
)
from daskml_core.optimize import minimize
from daskml_core.pipeline import make_pipeline
from daskml_core.preprocessing import StandardScaler
from daskml_core.svm import LinearSVC

N, D, LAMBDA, C = 3_000, 4, 0.02, 0.01
TIGHT = {"tol": 1e-9}


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features of different scales and means, labels, numbers and counts."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, D)) * [1.0, 3.0, 0.5, 2.0] + [0.0, 1.0, -2.0, 0.5]
    t = (X - X.mean(axis=0)) @ [1.0, -0.3, 0.8, 0.0] + 0.5
    y = (t + rng.logistic(size=N) > 0).astype(int)
    z = t + rng.normal(size=N)
    return X, y, z, rng.poisson(np.exp(np.clip(t / 3, None, 3)))


def flat(model) -> np.ndarray:
    """Coefficients and intercept, of the features as they are."""
    if not hasattr(model, "steps"):
        return np.append(np.ravel(model.coef_), np.ravel(model.intercept_))
    scaler, last = model[0], model[-1]
    w = np.ravel(last.coef_) / scaler.scale_
    return np.append(w, np.ravel(last.intercept_) - w @ scaler.mean_)


def off(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference, relative to the largest coefficient."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def scaled(model):
    """With the features scaled, as both others do on their own."""
    return make_pipeline(StandardScaler(), model)


def penalised_logistic(w, X, y):
    """Summed logistic loss and gradient; the last column of X is constant."""
    t = X @ w
    p = 1 / (1 + np.exp(-t))
    return np.logaddexp(0, t).sum() - t @ y, X.T @ (p - y)


def dask_ml_rows() -> list[list[str]]:
    """dask-ml's logistic regression: scaled features, intercept penalised, C ignored by two of its solvers."""
    from dask_ml.linear_model import LinearRegression as TheirLinear
    from dask_ml.linear_model import LogisticRegression as Theirs
    from dask_ml.linear_model import PoissonRegression as TheirPoisson

    X, y, z, counts = data()
    lazy, labels = da.from_array(X, chunks=(1000, D)), da.from_array(y, chunks=1000)
    # Without its own scaling, and centred, so that the penalty of the intercept is all that differs.
    centred = X - X.mean(axis=0)
    few = da.from_array(centred, chunks=(1000, D))
    same = {"solver": "lbfgs", "C": C, "max_iter": 500, "tol": 1e-12, "solver_kwargs": {"normalize": False}}
    numbers = TheirLinear(**same).fit(few, da.from_array(z - z.mean(), chunks=1000))
    poisson = TheirPoisson(fit_intercept=False, **same).fit(few, da.from_array(counts, chunks=1000))
    own_poisson = PoissonRegressor(alpha=1 / (N * C), fit_intercept=False, **TIGHT).fit(centred, counts)
    theirs = Theirs(solver="lbfgs", C=C, max_iter=500, tol=1e-10).fit(lazy, labels)
    reached = np.append(theirs.coef_, theirs.intercept_)
    scaler = StandardScaler().fit(X)
    Z = np.column_stack([scaler.transform(X), np.ones(N)])
    found = minimize(penalised_logistic, np.zeros(D + 1), Z, y, l2=1 / (C * N), solver="lbfgs", tol=1e-10).x
    w = found[:-1] / scaler.scale_
    own = scaled(LogisticRegression(C=C, **TIGHT)).fit(X, y)
    newton = Theirs(solver="newton", C=C).fit(lazy, labels)
    free = LogisticRegression(C=np.inf, **TIGHT).fit(X, y)
    ignored = np.append(newton.coef_, newton.intercept_)
    return [
        [
            "dask-ml LogisticRegression(C), lbfgs",
            "that objective, intercept penalised, scaled",
            off(np.append(w, found[-1] - w @ scaler.mean_), reached),
        ],
        ["the same", "StandardScaler, LogisticRegression(C)", off(flat(own), reached)],
        ["dask-ml LogisticRegression(C), newton", "LogisticRegression(C=inf)", off(flat(free), ignored)],
        [
            "dask-ml LinearRegression(C)",
            "Ridge(alpha=1/(2 C))",
            off(Ridge(alpha=0.5 / C).fit(centred, z - z.mean()).coef_, numbers.coef_),
        ],
        ["dask-ml PoissonRegression(C)", "PoissonRegressor(alpha=1/(n C))", off(own_poisson.coef_, poisson.coef_)],
    ]


def spark_rows() -> list[list[str]]:
    """Spark's penalties beside the mean of losses; scaled features unless told otherwise."""
    from pyspark.ml.classification import LinearSVC as SparkSVC
    from pyspark.ml.classification import LogisticRegression as SparkLogistic
    from pyspark.ml.linalg import Vectors
    from pyspark.ml.regression import GeneralizedLinearRegression
    from pyspark.ml.regression import LinearRegression as SparkLinear

    spark = spark_session(sql_shuffle_partitions="2")
    spark.sparkContext.setLogLevel("ERROR")
    X, y, z, counts = data()
    rows = [(Vectors.dense(a), float(b), float(c), float(e)) for a, b, c, e in zip(X, y, z, counts, strict=True)]
    frame = spark.createDataFrame(rows, ["features", "label", "number", "count"]).coalesce(1).cache()
    many = {"maxIter": 2000, "tol": 1e-13}

    def theirs(estimator) -> np.ndarray:
        model = estimator.fit(frame)
        return np.append(model.coefficients.toArray(), model.intercept)

    number, count = {"labelCol": "number"}, {"labelCol": "count"}
    plain = {"standardization": False}
    elastic = {"regParam": LAMBDA, "elasticNetParam": 0.3}
    inverse = 1 / (N * LAMBDA)
    # The target is scaled as well: the l2 part of the penalty is divided by its standard deviation, the l1 part is not.
    sd = z.std(ddof=1)
    strength = LAMBDA * (0.3 + 0.7 / sd)
    checks = [
        ["LogisticRegression(regParam)", "StandardScaler, LogisticRegression(C=1/(n regParam))",
         scaled(LogisticRegression(C=inverse, **TIGHT)).fit(X, y), SparkLogistic(regParam=LAMBDA, **many)],
        ["the same, standardization=False", "LogisticRegression(C=1/(n regParam))",
         LogisticRegression(C=inverse, **TIGHT).fit(X, y), SparkLogistic(regParam=LAMBDA, **plain, **many)],
        ["the same, elasticNetParam=0.3", "..., l1_ratio=0.3",
         LogisticRegression(C=inverse, l1_ratio=0.3, **TIGHT).fit(X, y), SparkLogistic(**elastic, **plain, **many)],
        ["LinearSVC(regParam)", 'StandardScaler, LinearSVC(loss="hinge", C=1/(n regParam))',
         scaled(LinearSVC(loss="hinge", C=inverse, tol=1e-9)).fit(X, y), SparkSVC(regParam=LAMBDA, **many)],
        ["LinearRegression(regParam=0)", "LinearRegression()",
         LinearRegression().fit(X, z), SparkLinear(**number, **many)],
        ["LinearRegression(regParam), standardization=False", "Ridge(alpha=n regParam/sd(y))",
         Ridge(alpha=N * LAMBDA / sd).fit(X, z), SparkLinear(regParam=LAMBDA, **plain, **number, **many)],
        ["LinearRegression(regParam)", "StandardScaler, Ridge(alpha=n regParam/sd(y))",
         scaled(Ridge(alpha=N * LAMBDA / sd)).fit(X, z), SparkLinear(regParam=LAMBDA, **number, **many)],
        ["LinearRegression, elasticNetParam=a, standardization=False",
         "ElasticNet(alpha=regParam (a + (1 - a)/sd(y)), l1_ratio=a regParam/alpha)",
         ElasticNet(alpha=strength, l1_ratio=0.3 * LAMBDA / strength, tol=1e-12, max_iter=10**5).fit(X, z),
         SparkLinear(**elastic, **plain, **number, **many)],
        ["LinearRegression(loss=huber, regParam), standardization=False", "HuberRegressor(alpha=n regParam)",
         HuberRegressor(alpha=N * LAMBDA, **TIGHT).fit(X, z),
         SparkLinear(loss="huber", regParam=LAMBDA, **plain, **number, **many)],
        ["GeneralizedLinearRegression(poisson, regParam)", "PoissonRegressor(alpha=regParam mean(y))",
         PoissonRegressor(alpha=LAMBDA * counts.mean(), **TIGHT).fit(X, counts),
         GeneralizedLinearRegression(family="poisson", regParam=LAMBDA, maxIter=100, tol=1e-12, **count)],
    ]  # fmt: skip
    found = [[f"Spark {a}", b, off(flat(ours), theirs(estimator))] for a, b, ours, estimator in checks]
    spark.stop()
    return found


def main() -> None:
    """One table."""
    warnings.simplefilter("ignore")
    rows = []
    for name, make in (("dask_ml", dask_ml_rows), ("pyspark", spark_rows)):
        there = importlib.util.find_spec(name) is not None and (name != "pyspark" or shutil.which("java"))
        rows += make() if there else [[name, "not installed", ""]]
    table("Coefficients of both, largest difference relative to the largest", ["there", "here", "off"], rows)
    # Two things cannot agree to the digits: an intercept that only dask-ml penalises, a hinge that Spark takes for smooth.
    loose = {
        "StandardScaler, LogisticRegression(C)": 0.1,
        'StandardScaler, LinearSVC(loss="hinge", C=1/(n regParam))': 2e-3,
    }
    there_is = [row for row in rows if row[2] != ""]
    gate("each translation gives their coefficients", all(row[2] < loose.get(row[1], 1e-4) for row in there_is))


if __name__ == "__main__":
    main()
