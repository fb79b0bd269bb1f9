"""The files of one store: written beside each other, described by an index with their sizes, read as columns."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.dataset import SPLITS, Dataset, Split
from harness.datasets.parts.columns import Column
from harness.record import atomic_write

FORMAT = 2
INDEX, NAMES, LABELS = "index.json", "names.json", "labels.npy"
COLUMNS = ("images", "masks")
# Of a Dataset, in the index.
PLAIN = ("class_names", "image_size", "ignore", "background", "ignored_pixels", "duplicates", "fingerprint")
NOT_CONTENT = ("name", "groups", "passed_over")    # these too, but the fingerprint does not depend on them


class Torn(Exception):
    """What is the matter with a store that is there but not whole."""


def write_store(dataset: Dataset, folder: Path) -> None:
    """Write ``dataset`` into ``folder``; columns that were decoded into it are left where they are.

    Raises OSError where it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    splits = [getattr(dataset, name) for name in SPLITS]
    index = {"format": FORMAT, "splits": [len(split) for split in splits], "columns": {},
             **{name: getattr(dataset, name) for name in (*PLAIN, *NOT_CONTENT)}}
    for name in COLUMNS:
        parts = [getattr(split, name) for split in splits]
        if parts[0] is not None:
            index["columns"][name] = _write_column(folder, name, parts)
    if dataset.train.labels is not None:
        np.save(folder / LABELS, np.concatenate([np.asarray(split.labels, np.int64) for split in splits]))
    (folder / NAMES).write_text(json.dumps([name for split in splits for name in split.names]))
    index["files"] = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    (folder / INDEX).write_text(json.dumps(index, indent=1))


def _write_column(folder: Path, name: str, parts: list) -> dict:
    path = folder / f"{name}.bin"
    if all(isinstance(part, Column) and part.path == path for part in parts):
        dtype, shapes = parts[0].dtype, parts[0].shapes
    else:
        found = []
        with open(path, "wb") as file:
            for part in parts:
                for item in part:
                    file.write(np.ascontiguousarray(item).data)
                    found.append((item.shape, item.dtype))
        kinds, dtypes = (set(each) for each in zip(*found))
        assert len(dtypes) == 1, f"{name} of one data set have one dtype"
        dtype, shapes = dtypes.pop(), kinds.pop() if len(kinds) == 1 else np.array([shape for shape, _ in found])
    if isinstance(shapes, tuple):
        return {"dtype": str(dtype), "shape": shapes}
    np.save(folder / f"{name}.shapes.npy", shapes.astype(np.int64))
    return {"dtype": str(dtype), "shape": None}


def read_store(folder: Path) -> Dataset:
    """The data set in ``folder`` as memory maps, after a look at every file's size.

    Raises FileNotFoundError where there is no such folder, Torn where it is not whole.
    """
    os.stat(folder)
    try:
        index = json.loads((folder / INDEX).read_bytes())
        if index["format"] != FORMAT:
            raise Torn(f"format {index['format']}, not {FORMAT}")
        for name, size in index["files"].items():
            there = os.stat(folder / name).st_size
            if there != size:
                raise Torn(f"{name} has {there} bytes, not {size}")
        return _read(folder, index)
    except FileNotFoundError as error:
        raise Torn(f"{Path(error.filename).name} is missing") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Torn(f"{INDEX} cannot be read: {error}") from None


def _read(folder: Path, index: dict) -> Dataset:
    names, total = json.loads((folder / NAMES).read_bytes()), sum(index["splits"])
    columns = {}
    for name, found in index["columns"].items():
        shapes = np.load(folder / f"{name}.shapes.npy") if found["shape"] is None else tuple(found["shape"])
        columns[name] = Column(folder / f"{name}.bin", found["dtype"], shapes, 0, total)
    labels = np.load(folder / LABELS) if LABELS in index["files"] else None
    splits, first = [], 0
    for count in index["splits"]:
        last = first + count
        parts = {name: column.part(first, last) for name, column in columns.items()}
        splits.append(Split(names=names[first:last], labels=None if labels is None else labels[first:last], **parts))
        first = last
    known = {name: index[name] for name in (*PLAIN, *NOT_CONTENT)}
    known |= {name: tuple(known[name]) for name in ("class_names", "image_size")}
    return Dataset(train=splits[0], validation=splits[1], test=splits[2], folder=folder, **known)


def describe_source(folder: Path, facts: Mapping[str, Any]) -> None:
    """Put other ``facts``, of the names in NOT_CONTENT, into the index of data whose content is the same."""
    index = json.loads((folder / INDEX).read_bytes())
    atomic_write(folder / INDEX, json.dumps({**index, **facts}, indent=1).encode())


def rename_store(folder: Path, target: Path) -> None:
    """Give the finished ``folder`` its name. A whole store of that name stays; a torn one makes room."""
    for _ in range(10):
        try:
            os.rename(folder, target)
            return
        except OSError:
            if not target.exists():
                raise
        try:
            read_store(target)
            return
        except FileNotFoundError:                  # just moved away by another process
            continue
        except Torn:
            aside = folder.with_name(f"{folder.name}-torn")
            try:
                os.rename(target, aside)
            except FileNotFoundError:
                continue
            shutil.rmtree(aside, ignore_errors=True)
