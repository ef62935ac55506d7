"""K-means by Spark MLlib on the rows of the benchmark's store; prints seconds and centres as JSON."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np
from spark_session import spark_session

ROWS_A_FILE = 500_000


def parquet(scratch: Path) -> Path:
    """The store's rows as parquet, one column a feature; written once."""
    import pyarrow
    import pyarrow.parquet
    import zarr

    path = scratch / "clusters.parquet"
    if not (path / "_done").exists():
        path.mkdir(parents=True, exist_ok=True)
        X = zarr.open_group(scratch / "clusters-zstd.zarr", mode="r")["X"]
        for i, lo in enumerate(range(0, X.shape[0], ROWS_A_FILE)):
            rows = np.asarray(X[lo : lo + ROWS_A_FILE])
            columns = {f"x{j}": np.ascontiguousarray(rows[:, j]) for j in range(rows.shape[1])}
            pyarrow.parquet.write_table(pyarrow.table(columns), path / f"part-{i}.parquet", compression="zstd")
        (path / "_done").touch()
    return path


def main(scratch: Path) -> None:
    """Fit once, ingestion included, the start of the JVM excluded."""
    from pyspark.ml.clustering import KMeans
    from pyspark.ml.feature import VectorAssembler

    path = parquet(scratch)
    spark = spark_session(driver_memory="10g")
    spark.range(10).count()
    start = time.perf_counter()
    frame = spark.read.parquet(str(path))
    features = (
        VectorAssembler(inputCols=frame.columns, outputCol="features").transform(frame).select("features").cache()
    )
    model = KMeans(k=20, maxIter=20, seed=0).fit(features)
    wall = time.perf_counter() - start
    centers = [list(map(float, c)) for c in model.clusterCenters()]
    pid = spark.sparkContext._gateway.proc.pid
    with open(f"/proc/{pid}/stat") as file:
        user, system = file.read().rsplit(")", 1)[1].split()[11:13]
    cpu = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    spark.stop()
    own = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"wall": wall, "cpu": cpu + own.ru_utime + own.ru_stime, "centers": centers}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
