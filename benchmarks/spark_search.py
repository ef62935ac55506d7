"""Cross-validation of logistic regressions by Spark MLlib on the rows of the benchmark's store; prints seconds as JSON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from spark_session import spark_session

PENALTIES = [1e-4, 1e-3, 1e-2, 1e-1, 1.0]


def parquet(store: Path) -> Path:
    """The store's rows as parquet, one column a feature and the label; written once."""
    import pyarrow
    import pyarrow.parquet
    import zarr

    path = store.with_suffix(".parquet")
    if not path.exists():
        group = zarr.open_group(store, mode="r")
        X = np.asarray(group["X"][:])
        columns = {f"x{j}": np.ascontiguousarray(X[:, j]) for j in range(X.shape[1])}
        columns["label"] = np.asarray(group["y"][:]).astype(np.float64)
        pyarrow.parquet.write_table(pyarrow.table(columns), path, compression="zstd")
    return path


def main(store: Path) -> None:
    """One default fit and one search of 3 folds x 5 penalties, rows cached in memory before either."""
    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.evaluation import MulticlassClassificationEvaluator
    from pyspark.ml.feature import VectorAssembler
    from pyspark.ml.tuning import CrossValidator, ParamGridBuilder

    path = parquet(store)
    spark = spark_session(driver_memory="6g", ui_showConsoleProgress="false")
    frame = spark.read.parquet(str(path)).repartition(8)
    names = [name for name in frame.columns if name != "label"]
    rows = VectorAssembler(inputCols=names, outputCol="features").transform(frame).select("features", "label").cache()
    rows.count()
    model = LogisticRegression(regParam=1e-3)
    model.fit(rows)  # the JVM compiles
    start = time.perf_counter()
    model.fit(rows)
    fit_s = time.perf_counter() - start
    grid = ParamGridBuilder().addGrid(model.regParam, PENALTIES).build()
    accuracy = MulticlassClassificationEvaluator(metricName="accuracy")
    search = CrossValidator(estimator=model, estimatorParamMaps=grid, evaluator=accuracy, numFolds=3, seed=0)
    start = time.perf_counter()
    found = search.fit(rows)
    search_s = time.perf_counter() - start
    spark.stop()
    print(json.dumps({"fit": fit_s, "search": search_s, "accuracy": max(found.avgMetrics)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
