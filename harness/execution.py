"""How runs are made, and a run on its way to the process or machine that makes it. No torch import."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InputError
from harness.executors import registry
from harness.extras import check_entry
from harness.spec import Frozen, RunSpec, digest

ANSWER_S = 10.0                                    # within which an address must answer
Listener = Callable[..., None]                     # listener(**event)


@dataclass(frozen=True)
class Execution:
    """How runs are made. None of it decides their numbers, except ``threads`` in the last digits of sums."""

    executor: str = "local"                        # a file in this folder, for ray with :ADDRESS behind it
    jobs: int | None = None                        # runs at a time; None = as many as pay
    threads: int | None = None                     # of the CPU, for each run; None = a run's share of the cores
    checkpoint_every_s: float = 300.0              # 0 = no checkpoints
    processes: int = 1                             # that share every run's batches, on a GPU each
    in_process: bool = False                       # in this process, one after the other, to debug

    def check(self) -> None:
        """Raise InputError for what cannot be, without importing torch."""
        name, _, address = self.executor.partition(":")
        check_entry(registry, name, option="--executor")
        for option, value in (("--jobs", self.jobs), ("--threads", self.threads), ("--processes", self.processes)):
            if value is not None and value < 1:
                raise InputError(f"{option} must be at least 1, not {value}")
        if self.processes > 1 and (self.in_process or name != "local"):
            raise InputError("--processes is for --executor local, and not for --in-process")
        if self.checkpoint_every_s < 0:
            raise InputError("--checkpoint-every takes minutes, 0 or more")
        if address not in ("", "auto"):
            check_address(name, address)


def check_address(name: str, address: str) -> None:
    """Raise InputError where nothing listens at an executor's ``address``, [SCHEME://]HOST:PORT."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host, int(port)), ANSWER_S).close()
    except (OSError, ValueError) as error:
        raise InputError(f"--executor {name}: nothing answers at {address}: {error}") from None


LOCAL = Execution()


class Assignment(Frozen):
    """A run to be made, as it crosses to the process or machine that makes it: JSON."""

    spec: RunSpec
    code: str                                      # fingerprint of the sources
    data: str                                      # fingerprint of the data, which the maker opens by itself
    out: Path                                      # results folder
    cache: Path
    threads: int
    checkpoint_every_s: float = 300.0
    loader_workers: int = 0
    processes: int = 1                             # that share the run's batches
    prepares: bool = False                         # first what runs share, while another one trains

    @property
    def run_id(self) -> str:
        return self.spec.run_id(code=self.code, data=self.data)

    @property
    def runs(self) -> Path:
        return self.out / "runs"

    @property
    def checkpoints(self) -> Path:
        """Named by what was asked for: a checkpoint of other code or data is then seen, and said."""
        return self.out / "checkpoints" / digest(self.spec.identity())
