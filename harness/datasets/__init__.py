"""Data sets, one file each; the file's name is the data set's name.

A file defines ``FIELDS``, a literal tuple of what it can hold ("images", "masks", "labels"), and::

    load(needs, *, root=None, download=False, **options) -> harness.dataset.Dataset

``needs`` are the fields that are asked for; a set that holds more may give more. One that reads files also defines
``sources(*, root, **options) -> list[Path]``, the files that it will read, so that a changed one is noticed; one that
reads many takes ``decode`` (``parts/decoding.py``). A file is found by its place in this folder: adding one edits
nothing else. Data are opened through ``parts/store.py``, which decodes once.
"""

from __future__ import annotations

from pathlib import Path

from variants.registry import FolderRegistry

registry = FolderRegistry(__name__, "data set", Path(__file__).parent)
