"""Ways to part a data set into train, validation and test."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.datasets.parts.arguments import read_lines
from harness.errors import InputError, unknown

SPLITS = ("train", "validation", "test")

# Ten cards dealt in turn: 6 train, 1 validation, 3 test, spread so that a class of any size is shared out.
DEAL = np.array([0, 2, 0, 0, 2, 0, 1, 0, 2, 0])


def stratified(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of train, validation and test: 60, 10 and 30 %, every class in the same proportions.

    ``labels`` (N,) int, N >= 10. The items are shuffled by ``seed``, sorted by class and dealt like
    cards, so each split's size is within one of its share, over all and (to two) in each class. The
    returned indices ascend, are disjoint and cover 0..N-1; none of the three is empty.
    """
    assert len(labels) >= len(DEAL)
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    dealt = DEAL[np.arange(len(labels)) % len(DEAL)]
    return tuple(np.sort(order[dealt == split]) for split in range(3))


def contiguous(count: int) -> tuple[range, range, range]:
    """The first 2/3, the next 1/6 and the last 1/6 of ``count`` >= 3 items, each at least one.

    >>> contiguous(30)
    (range(0, 20), range(20, 25), range(25, 30))
    """
    assert count >= 3
    held_out = max(1, round(count / 6))
    train, validation = count - 2 * held_out, count - held_out
    return range(train), range(train, validation), range(validation, count)


def natural_key(name: str) -> list:
    """Sort key in which numbers count by value: "img2" before "img10"."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), part) if i % 2 else part for i, part in enumerate(parts)]


def from_csv(path: Path, stems: Sequence[str]) -> tuple[list[int], list[int], list[int]]:
    """Indices into ``stems`` of train, validation and test, as a file of columns stem,split says.

    Raises
    ------
    InputError
        Missing columns, a stem that has no image or stands twice, an image that is not listed, a split
        of another name, or a split that stays empty.
    """
    index = {stem: i for i, stem in enumerate(stems)}
    chosen: dict[str, list[int]] = {split: [] for split in SPLITS}
    rows = csv.DictReader(read_lines(path), skipinitialspace=True)
    if not {"stem", "split"} <= set(rows.fieldnames or ()):
        raise InputError(f"{path} must start with the line stem,split")
    listed = set()
    for row in rows:
        stem, split = ((row[column] or "").strip() for column in ("stem", "split"))
        if split not in chosen:
            raise InputError(f"{path}: {unknown('split', split, SPLITS)}")
        if stem not in index:
            raise InputError(f"{path} lists stem {stem!r}, but there is no image of that name")
        if stem in listed:
            raise InputError(f"{path} lists stem {stem!r} twice")
        listed.add(stem)
        chosen[split].append(index[stem])
    missing = [stem for stem in stems if stem not in listed]
    if missing:
        raise InputError(f"{path} does not say which split image {missing[0]!r} is in{and_more(missing)}")
    for split, members in chosen.items():
        if not members:
            raise InputError(f"{path} puts no image into {split}; each of {', '.join(SPLITS)} needs at least one")
    return tuple(sorted(members) for members in chosen.values())


def and_more(items: Sequence) -> str:
    """" (and 4 more)" where a message names the first of five items; "" where there is only one."""
    return f" (and {len(items) - 1} more)" if len(items) > 1 else ""
