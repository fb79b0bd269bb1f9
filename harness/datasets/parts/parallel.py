"""Decoding by all cores into flat files, in the order of the items, holding one array at a time."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np

from harness.datasets.parts.columns import Column
from harness.datasets.parts.decoding import Decoded, Fact, Read
from harness.errors import InputError, is_disk_full
from harness.measurement.processor import usable_cores

ALONE_SECONDS = 1.0     # in this process first: starting others takes longer than a small set
CHUNKS_PER_WORKER = 8   # at least, so that all end at about the same time
MOST_IN_CHUNK = 64      # items between two messages of progress
AHEAD = 3               # chunks per worker that wait to be appended: temporary files


class FileDecoder:
    """Decodes into ``folder``: a flat file for each label. A :class:`harness.datasets.parts.decoding.Decode`."""

    def __init__(self, folder: Path, progress: Callable[..., None], workers: int | None = None):
        self.folder, self.progress, self.workers = folder, progress, workers or usable_cores()
        self.sizes: dict[str, int] = {}            # bytes that each label takes, estimated until it is done

    @property
    def needed(self) -> int:
        """Bytes that everything so far takes, with what is being decoded counted to its end."""
        return sum(self.sizes.values())

    def __call__(self, read: Read, items: Sequence[Any], label: str) -> Decoded:
        self.folder.mkdir(parents=True, exist_ok=True)
        path, facts = self.folder / f"{label}.bin", []
        with open(path, "wb") as file:
            done, deadline = 0, time.monotonic() + ALONE_SECONDS
            while done < len(items) and (time.monotonic() < deadline or self.workers == 1):
                facts += append(read, items[done:done + 1], file)
                done += 1
                self._report(label, done, len(items), file.tell(), each=MOST_IN_CHUNK)
            if done < len(items):
                for found in self._by_others(read, items[done:], file):
                    facts += found
                    self._report(label, len(facts), len(items), file.tell())
        return Decoded(column(path, facts), facts)

    def _report(self, label: str, done: int, count: int, size: int, each: int = 1) -> None:
        self.sizes[label] = size * count // done
        if done == count or done % each == 0:
            self.progress(stage=f"decoding {label}", step=done, total=count)

    def _by_others(self, read: Read, items: Sequence[Any], file):
        """Facts of chunk after chunk, each appended to ``file`` when those before it are."""
        size = max(1, min(MOST_IN_CHUNK, len(items) // (CHUNKS_PER_WORKER * self.workers)))
        starts = iter(range(0, len(items), size))
        # Not forkserver: the runs' own has loaded torch, and a first server made here would be theirs without it.
        pool = ProcessPoolExecutor(self.workers, multiprocessing.get_context("spawn"), prepare_worker)
        waiting: deque[tuple[Path, Future]] = deque()
        try:
            while True:
                for start in starts:
                    part = self.folder / f"chunk-{start}"
                    waiting.append((part, pool.submit(decode_chunk, read, items[start:start + size], part)))
                    if len(waiting) >= AHEAD * self.workers:
                        break
                if not waiting:
                    return
                part, future = waiting.popleft()
                facts = future.result()
                move_into(file, part)
                yield facts
        except BrokenProcessPool:
            raise InputError("a process that decoded files was killed, perhaps for want of memory; "
                             "repeat the command") from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def column(path: Path, facts: Sequence[Fact]) -> Column:
    """The column of the arrays that ``facts`` describe, which lie end to end in ``path``."""
    shapes = {fact.shape for fact in facts}
    layout = shapes.pop() if len(shapes) == 1 else np.array([fact.shape for fact in facts], np.int64)
    return Column(path, facts[0].dtype, layout, 0, len(facts), [fact.digest for fact in facts])


def append(read: Read, items: Sequence[Any], file) -> list[Fact]:
    """Decode ``items`` one by one to the end of ``file``."""
    facts = []
    for item in items:
        array, note = read(item)
        array = np.ascontiguousarray(array)
        file.write(array.data)
        facts.append(Fact.of(array, note))
    return facts


def decode_chunk(read: Read, items: Sequence[Any], path: Path) -> list[Fact]:
    with open(path, "wb") as file:
        return append(read, items, file)


def move_into(file, part: Path) -> None:
    """Append the file ``part`` to ``file``, in the kernel where it can, and remove it."""
    file.flush()
    with open(part, "rb") as source:
        left = os.fstat(source.fileno()).st_size
        try:
            while left:
                copied = os.copy_file_range(source.fileno(), file.fileno(), left)
                if not copied:
                    break
                left -= copied
        except AttributeError:                     # not on this system
            pass
        except OSError as error:
            if is_disk_full(error):
                raise
        if left:                                   # a file system that cannot: from where it stopped
            file.seek(0, os.SEEK_END)
            shutil.copyfileobj(source, file, 2**22)
        file.seek(0, os.SEEK_END)
    part.unlink()


def prepare_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
