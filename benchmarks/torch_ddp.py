"""Seconds of a full-batch logistic gradient step of PyTorch DDP on two gloo processes: ``torch_ddp.py STORE``."""

from __future__ import annotations

import os
import statistics
import sys
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import zarr


def run(rank: int, path: str) -> None:
    """One of two processes; half of the rows each, forward and backward in one batch."""
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = "127.0.0.1", "29511"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    store = zarr.open_group(path, mode="r")
    n = store["X"].shape[0] // 2
    X = torch.from_numpy(store["X"][rank * n : (rank + 1) * n])
    y = torch.from_numpy(store["y"][rank * n : (rank + 1) * n].astype("f4"))
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(X.shape[1], 1))
    loss = torch.nn.BCEWithLogitsLoss()
    step = torch.optim.SGD(model.parameters(), lr=0.1)
    seconds = []
    for _ in range(12):
        start = time.perf_counter()
        step.zero_grad()
        loss(model(X)[:, 0], y).backward()
        step.step()
        seconds.append(time.perf_counter() - start)
    if rank == 0:
        print(statistics.median(seconds[2:]))
    dist.destroy_process_group()


if __name__ == "__main__":
    mp.spawn(run, args=(sys.argv[1],), nprocs=2)
