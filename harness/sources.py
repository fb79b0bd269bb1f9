"""Which source files move numbers, and their fingerprint: a changed one makes a new ``run_id``."""

from __future__ import annotations

import hashlib
from pathlib import Path

from harness.networks import source_file

ROOT = Path(__file__).parent.parent

# How a number is made. Tables, plots, reports and the command line only show it.
MOVES_NUMBERS = ("variants/**/*.py", "harness/suites/*.py", "harness/metrics/*.py", "harness/diffusion.py",
                 "harness/losses.py", "harness/measure.py", "harness/run.py", "harness/train.py")


def code_fingerprint(variant: str) -> str:
    """Hash of every file in :data:`MOVES_NUMBERS`, and of ``variant``'s own file where it lies elsewhere.

    Data sets are not among them: what they make is hashed itself.
    """
    files = {path for pattern in MOVES_NUMBERS for path in ROOT.glob(pattern)}
    sha = hashlib.sha256()
    for path in sorted(files):
        sha.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    own = source_file(variant)
    if own is not None:
        sha.update(own.read_bytes())
    return sha.hexdigest()[:16]
