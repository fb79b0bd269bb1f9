"""Decoding many files: what is to be known of each, and the way that keeps everything in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from harness.dataset import item_digest

Read = Callable[[Any], tuple[np.ndarray, Any]]      # of a path, for example: the array, and a note for the caller


@dataclass(frozen=True)
class Fact:
    """What is known of one array without looking at it again."""

    shape: tuple[int, ...]
    dtype: str
    digest: bytes                                  # harness.dataset.item_digest
    note: Any                                      # what the reading function said of it

    @classmethod
    def of(cls, array: np.ndarray, note: Any) -> Fact:
        return cls(array.shape, str(array.dtype), item_digest(array), note)


@dataclass(frozen=True)
class Decoded:
    """Arrays in the order of what they were decoded from. ``arrays`` is of use where all have one dtype."""

    arrays: Any                                    # a list, or a column with ``part``
    facts: list[Fact]

    def part(self, start: int, stop: int) -> Sequence[np.ndarray]:
        return self.arrays.part(start, stop) if hasattr(self.arrays, "part") else self.arrays[start:stop]


class Decode(Protocol):
    """A service that decodes: in memory here; by all cores into files where a store is built."""

    def __call__(self, read: Read, items: Sequence[Any], label: str) -> Decoded:
        """``read`` each of ``items``, in order; a second call with the same ``label`` replaces the first.

        ``read`` can be pickled. Raises what it raises for the first item that it cannot read.
        """


def decode_in_memory(read: Read, items: Sequence[Any], label: str) -> Decoded:
    arrays, facts = [], []
    for item in items:
        array, note = read(item)
        arrays.append(array)
        facts.append(Fact.of(array, note))
    return Decoded(arrays, facts)
