"""Fit inside an MPI job: ``mpirun -n 4 python fit_mpi.py STORE MODEL`` is a scheduler, this script and two workers."""

from __future__ import annotations

import os
import signal
import sys

from dask_mpi import initialize
from distributed import Client
from fit import fit, leave
from mpi4py import MPI

if __name__ == "__main__":
    initialize(  # returns in rank 1 only: rank 0 becomes the scheduler, all others become workers
        interface=os.environ.get("INTERFACE", "ib0"),
        nthreads=int(os.environ.get("SLURM_CPUS_PER_TASK", "1")),
        memory_limit=os.environ.get(
            "MEMORY_LIMIT", "4 GiB"
        ),  # dask-mpi sees no job: "auto" is all of the node's memory
        local_directory=os.environ.get("LOCAL_SCRATCH", "/tmp"),
        dashboard_address="127.0.0.1:8787",
        protocol="tls" if "DASK_CONFIG" in os.environ else None,
    )
    signal.signal(signal.SIGTERM, leave)
    with Client() as client:
        client.wait_for_workers(MPI.COMM_WORLD.Get_size() - 2, timeout=600)
        fit(*sys.argv[1:3])
