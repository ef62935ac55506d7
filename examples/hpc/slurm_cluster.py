"""Fit from a session on a login node, on workers that are jobs of SLURM: ``python slurm_cluster.py STORE MODEL``.

Queue and account stand in ~/.config/dask/jobqueue.yaml.
"""

from __future__ import annotations

import os
import sys

from dask_jobqueue import SLURMCluster
from distributed import Client
from fit import fit


def main(store: str, path: str, n_jobs: int = 2) -> None:
    """Fit when all jobs have begun; fewer would give the same bits, with less of the data in memory."""
    with (
        SLURMCluster(
            cores=8,
            processes=1,  # a worker a job, with 8 threads
            memory="14 GiB",  # what Dask may use, and
            job_mem="16G",  # what SLURM grants: the rest is for what Dask does not count
            walltime="01:00:00",
            interface=os.environ.get("INTERFACE", "ib0"),
            local_directory=os.environ.get("LOCAL_SCRATCH", "/tmp"),  # a disk of the node
            scheduler_options={"dashboard_address": "127.0.0.1:8787"},
            log_directory="logs",
            job_extra_directives=["--requeue"],  # a job that was pre-empted comes back and joins again
            worker_extra_args=[
                "--lifetime",
                "55m",
                "--lifetime-stagger",
                "4m",
            ],  # leave in good order before SLURM ends it
        ) as cluster,
        Client(cluster) as client,
    ):
        cluster.scale(jobs=n_jobs)
        client.wait_for_workers(n_jobs, timeout=600)
        fit(store, path)


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:4]))
