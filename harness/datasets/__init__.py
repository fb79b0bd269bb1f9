"""Data sets, one file each; the file's name is the data set's name.

A file defines ``TASKS`` (a tuple of "segmentation", "generation") and::

    load(task, *, root=None, download=False, **options) -> harness.dataset.Dataset

and is found by its place in this folder: adding one edits nothing else.
"""

from __future__ import annotations

from pathlib import Path

from variants.registry import FolderRegistry

registry = FolderRegistry(__name__, "data set", Path(__file__).parent)
