"""Where runs happen, one file each; the file's name is the executor's name.

A file defines ``Executor(how, *, runs, device)``, made for a plan of so many runs on "cpu" or "cuda", with

``jobs``: how many runs it makes at a time;
``threads``: of the CPU, for each run;
``submit(assignment, listener) -> concurrent.futures.Future`` of the run's :class:`harness.record.Record`;
``close(cancel)``: end; with ``cancel`` at once, and what is unfinished leaves nothing but its checkpoint;

and, as a literal, ``NEEDS``: optional, the packages that it imports, each with the extra that installs it.
"""

from __future__ import annotations

from pathlib import Path

from variants.registry import FolderRegistry

registry = FolderRegistry(__name__, "executor", Path(__file__).parent)
