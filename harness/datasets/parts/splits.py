"""Ways to part a data set into train, validation and test."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from harness.dataset import SPLITS
from harness.datasets.parts.arguments import read_lines
from harness.errors import InputError, unknown

# What people call them, as folders and in split.csv.
SPLIT_NAMES = {"train": "train", "training": "train", "val": "validation", "valid": "validation",
               "validation": "validation", "test": "test", "testing": "test"}

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


def nfc(name: str) -> str:
    """``name`` with every accented letter as one character: systems differ in how they write it in file names."""
    return unicodedata.normalize("NFC", name)


def natural_key(name: str) -> list:
    """Sort key in which numbers count by value: "img2" before "img10"."""
    parts = re.split(r"(\d+)", nfc(name))
    return [(int(part), part) if i % 2 else part for i, part in enumerate(parts)]


def read_rows(path: Path) -> tuple[tuple[str, ...], list[dict[str, str]]]:
    """Columns and rows of a CSV file, stripped, in NFC; a cell that is not there is "".

    Raises InputError naming the file.
    """
    reader = csv.DictReader(read_lines(path), skipinitialspace=True)
    try:
        columns = tuple((name or "").strip() for name in reader.fieldnames or ())
        reader.fieldnames = columns
        return columns, [{name: nfc((row[name] or "").strip()) for name in columns} for row in reader]
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num + 1}: {error}") from None


def groups_from_csv(path: Path, stems: Sequence[str]) -> list[str] | None:
    """The group of every stem, from a file of columns stem,group; None where it has no such column.

    Raises InputError where a stem has no group, is no image's, or stands twice.
    """
    columns, rows = read_rows(path)
    if not {"stem", "group"} <= set(columns):
        return None
    group, known = {}, set(stems)
    for row in rows:
        stem = row["stem"]
        if stem not in known:
            raise InputError(f"{path} lists stem {stem!r}, but there is no image of that name")
        if stem in group:
            raise InputError(f"{path} lists stem {stem!r} twice")
        group[stem] = row["group"]
    missing = [stem for stem in stems if not group.get(stem)]
    if missing:
        raise InputError(f"{path} does not say which group image {missing[0]!r} is in{and_more(missing)}")
    return [group[stem] for stem in stems]


def require_whole_groups(path: Path, parts: Sequence[Sequence[int]], groups: Sequence[str]) -> None:
    """Raise InputError naming a group that ``parts`` puts into two splits."""
    home: dict[str, str] = {}
    for split, part in zip(SPLITS, parts, strict=True):
        for i in part:
            other = home.setdefault(groups[i], split)
            if other != split:
                raise InputError(f"{path} puts group {groups[i]!r} into {other} and into {split}; "
                                 "what belongs together must lie in one split")


def deal_groups(groups: Sequence[str], shares: tuple[float, float], where: Path) -> tuple[list[int], ...]:
    """Indices of train, validation and test: whole groups, in order of their first item, cut into three blocks.

    ``shares``: of all items, those before the first and before the second cut, met as nearly as whole groups allow.
    Raises InputError, naming the file ``where``, for fewer than three groups.
    """
    members: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    if len(members) < len(SPLITS):
        raise InputError(f"{where} has {len(members)} group{'s' * (len(members) != 1)}; at least 3 are needed, "
                         "to train, to validate and to test")
    before = np.cumsum([len(each) for each in members.values()])       # items before the cut after each group
    first, second = (share * len(groups) for share in shares)
    one = int(np.argmin(np.abs(before[:-2] - first))) + 1
    two = one + 1 + int(np.argmin(np.abs(before[one:-1] - second)))
    dealt = list(members.values())
    return tuple(sorted(i for group in part for i in group) for part in (dealt[:one], dealt[one:two], dealt[two:]))


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
    columns, rows = read_rows(path)
    if not {"stem", "split"} <= set(columns):
        raise InputError(f"{path} must start with the line stem,split; or stem,group; or stem,split,group")
    listed = set()
    for row in rows:
        stem, split = row["stem"], SPLIT_NAMES.get(row["split"], row["split"])
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


def _rows(rows: csv.DictReader, path: Path) -> Iterator[dict[str, str | None]]:
    try:
        yield from rows
    except csv.Error as error:                     # e.g. a cell longer than csv.field_size_limit()
        raise InputError(f"{path}:{rows.line_num + 1}: {error}") from None


def and_more(items: Sequence) -> str:
    """" (and 4 more)" where a message names the first of five items; "" where there is only one."""
    return f" (and {len(items) - 1} more)" if len(items) > 1 else ""
