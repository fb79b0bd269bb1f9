"""What is known of a data set's real images under an extractor, kept on disk by content for the runs to come."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from harness.record import atomic_write
from harness.spec import digest


class RealImages:
    """Features of one reference set, and how real held-out images score against it.

    ``identity`` says everything that features depend on besides the images, ``content`` hashes the images; both
    name the files in ``cache``. None keeps nothing. A damaged file is made anew.
    """

    def __init__(self, identity: dict, content: str, cache: Path | None):
        self.key, self.cache = {**identity, "reference": content}, cache

    def features(self, compute: Callable[[], Tensor]) -> Tensor:
        """Features (N, D) float32 of the reference."""
        def read(data: bytes) -> Tensor:
            return load(data)["features"]

        return self._remembered(f"features-{digest(self.key)}.safetensors", compute, read,
                                lambda found: save({"features": found}))

    def scores(self, of: dict, compute: Callable[[], dict[str, float]]) -> dict[str, float]:
        """What held-out images score; ``of`` says which they are and how many, and what computed it."""
        return self._remembered(f"reference-{digest({**self.key, **of})}.json", compute, json.loads,
                                lambda found: json.dumps(found).encode())

    def _remembered(self, name: str, compute: Callable, read: Callable, write: Callable):
        if self.cache is None:
            return compute()
        path = self.cache / name
        try:
            return read(path.read_bytes())
        except (OSError, ValueError, KeyError, SafetensorError):       # not there, or damaged
            pass
        found = compute()
        try:
            atomic_write(path, write(found))
        except OSError:                            # a cache that cannot be written costs time, not the run
            pass
        return found
