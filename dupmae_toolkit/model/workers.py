"""Batches side by side on a CPU, a thread for each core, instead of all cores on one product.

A batch of a thousand tokens is too little to divide: on two cores, products shared between them are
a fifth slower than two batches at once, each with its own.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch

Job = TypeVar("Job")
Result = TypeVar("Result")
#: More threads than this are shared out among as many workers: there are not always batches enough.
MOST_WORKERS = 16


def side_by_side(work: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
    """``work(job)`` of each job, in the order of the jobs, on as many threads as torch may use.

    What torch keeps for each thread (autocast, inference mode) ``work`` has to enter itself. If the
    caller stops early, or a job raises, the jobs that have not begun are dropped and those that
    have are waited for.
    """
    threads = torch.get_num_threads()
    workers = min(threads, MOST_WORKERS)
    if workers < 2 or len(jobs) < workers:
        yield from map(work, jobs)
        return
    pool = _pool(os.getpid(), workers, threads // workers, threads)
    waiting = deque(pool.submit(work, job) for job in jobs)
    try:
        while waiting:
            yield waiting.popleft().result()
    finally:
        begun = [future for future in waiting if not future.cancel()]
        for future in begun:
            future.exception()


@lru_cache(maxsize=1)
def _pool(process: int, workers: int, share: int, threads: int) -> ThreadPoolExecutor:
    """Workers whose products take ``share`` threads each; another process makes its own."""
    together = threading.Barrier(workers)

    def begin() -> None:
        # The first look takes over the process's number; after it the thread keeps its own.
        torch.get_num_threads()
        torch.set_num_threads(share)
        together.wait()

    pool = ThreadPoolExecutor(workers, "dupmae-batch", initializer=begin)
    for future in [pool.submit(together.wait) for _ in range(workers)]:
        future.result()
    # A worker's number holds for itself, but would also be what threads begin with after it.
    torch.set_num_threads(threads)
    return pool
