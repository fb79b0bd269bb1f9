"""The lease on a machine: runs share it, and whoever times something has it alone meanwhile.

Two lock files in the system's temporary folder, one for every user, make a readers-writer lock in which a waiting
writer goes first: ``gate`` lets nobody in while someone waits, ``room`` is held by all who work. The system frees
the locks of a process that dies, so that no lease outlives its holder. They hold for one machine, whatever started
the runs: several commands, or Ray.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:                                # Windows: runs there go one after the other
    fcntl = None


class MachineLease:
    """One process's place on the machine: shared from :meth:`join` to :meth:`leave`, alone inside :meth:`alone`.

    A process that has not joined shares nothing, and is never alone. ``folder`` holds the lock files; the default is
    one place for all processes of this user on this machine, or where the environment's UNET_BENCH_LEASE says.
    """

    def __init__(self, folder: Path | None = None):
        named = os.environ.get("UNET_BENCH_LEASE")
        self.folder = folder or Path(named or Path(tempfile.gettempdir()) / f"unet-bench-lease-{_user()}")
        self.joined, self._gate, self._room = False, None, None

    def join(self) -> None:
        """Work beside others; wait while someone is alone."""
        if fcntl is None:
            return
        if self._room is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._gate, self._room = (os.open(self.folder / name, os.O_RDWR | os.O_CREAT, 0o600)
                                      for name in ("gate", "room"))
        self._enter()
        self.joined = True

    def leave(self) -> None:
        """Work no longer, and close the lock files."""
        if self._room is not None:
            os.close(self._gate)
            os.close(self._room)
        self.joined, self._gate, self._room = False, None, None

    def give_way(self) -> None:
        """Wait while someone wants to be alone, or is: call it between two steps. Costs microseconds otherwise."""
        if self.joined:
            fcntl.flock(self._room, fcntl.LOCK_UN)
            self._enter()

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Have the machine alone: others stop at their next :meth:`give_way`. Gives False where it cannot be had."""
        if fcntl is None or not self.joined:
            yield False
            return
        fcntl.flock(self._room, fcntl.LOCK_UN)     # two who waited for each other's share would wait for ever
        fcntl.flock(self._gate, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._room, fcntl.LOCK_EX)
            yield True
        finally:
            fcntl.flock(self._room, fcntl.LOCK_SH)
            fcntl.flock(self._gate, fcntl.LOCK_UN)

    def _enter(self) -> None:
        fcntl.flock(self._gate, fcntl.LOCK_SH)
        fcntl.flock(self._room, fcntl.LOCK_SH)
        fcntl.flock(self._gate, fcntl.LOCK_UN)


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else "user"
