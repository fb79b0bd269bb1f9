"""The next batches, made by a thread while the accelerator works on this one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

AHEAD = 2               # batches that wait


@contextmanager
def prefetched(batches: Iterator[Any], device_type: str) -> Iterator[Iterator[Any]]:
    """``batches``, in their order, made ahead of time; on a CPU, which has nothing to spare, as they are.

    What making a batch raises is raised where it is asked for. The thread ends with the context.
    """
    if device_type == "cpu":
        yield batches
        return
    ready: queue.Queue = queue.Queue(AHEAD)
    ended = threading.Event()

    def put(item: tuple[Any, BaseException | None]) -> None:
        while not ended.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def make() -> None:
        try:
            while not ended.is_set():
                put((next(batches), None))
        except BaseException as problem:           # StopIteration, too: the reader's next() raises it
            put((None, problem))

    def read() -> Iterator[Any]:
        while True:
            batch, problem = ready.get()
            if isinstance(problem, StopIteration):
                return
            if problem is not None:
                raise problem
            yield batch

    thread = threading.Thread(target=make, name="prefetch", daemon=True)
    thread.start()
    try:
        yield read()
    finally:
        ended.set()
        thread.join()
