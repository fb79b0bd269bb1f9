"""What a data set is to a suite: three disjoint splits, and what must be known to use them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

FIELDS = ("images", "masks", "labels")             # what a split can hold of each case
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """One of train, validation or test. Fields are lists, arrays, or columns of a store (memory maps).

    ``images``  each (C, H, W), uint8 (0..255) or float32 (0..1); sizes may differ between images.
    ``names``   one per image, for per-case results; unique within the data set.
    ``masks``   each (H, W) uint8 of class ids, or the data set's ``ignore`` value; None where there are none.
    ``labels``  (N,) int64 class ids; None where there are none.
    """

    images: Sequence[np.ndarray]
    names: Sequence[str]
    masks: Sequence[np.ndarray] | None = None
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Dataset:
    """Three disjoint splits and what a suite must know to use them."""

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]                   # by class id; () where there are no classes
    image_size: tuple[int, int]                    # (H, W) of an image; of the smallest where sizes differ
    ignore: int | None = None                      # mask value that counts neither in a loss nor in a metric
    fingerprint: str = ""                          # content hash; computed from the splits where empty
    ignored_pixels: Mapping[str, int] | None = None    # split -> pixels of the value ``ignore``
    groups: Mapping[str, int] | None = None        # split -> number of groups (patients, films) that were kept whole
    folder: Path | None = field(default=None, compare=False)   # of the store that holds it; None: in memory

    def __post_init__(self):
        if not self.fingerprint:
            object.__setattr__(self, "fingerprint", self._content_hash())

    @property
    def channels(self) -> int:
        return self.train.images[0].shape[0]

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that every split holds."""
        return tuple(name for name in FIELDS if getattr(self.train, name) is not None)

    def describe(self) -> dict:
        """For the record: name, fields, image shape, classes, split sizes, content hash; ignored pixels and groups."""
        found = {"name": self.name, "fields": list(self.fields), "channels": self.channels,
                 "image_size": list(self.image_size), "classes": list(self.class_names),
                 "splits": {name: len(getattr(self, name)) for name in SPLITS}, "fingerprint": self.fingerprint}
        if self.ignore is not None:
            found |= {"ignore": self.ignore, "ignored_pixels": dict(self.ignored_pixels or {})}
        if self.groups is not None:
            found["groups"] = dict(self.groups)
        return found

    def _content_hash(self) -> str:
        """SHA-256 over classes, names and every item's digest, split by split in order (first 16 hex digits)."""
        sha = hashlib.sha256(json.dumps([self.class_names, self.ignore]).encode())
        for split in (self.train, self.validation, self.test):
            sha.update(json.dumps(list(split.names)).encode())
            for name in FIELDS:
                items = getattr(split, name)
                if items is None:
                    continue
                sha.update(name.encode())
                if name == "labels":
                    sha.update(np.asarray(items, np.int64).tobytes())
                    continue
                known = getattr(items, "digests", None)        # of a column, computed while decoding
                for digest in known if known is not None else map(item_digest, items):
                    sha.update(digest)
        return sha.hexdigest()[:16]


def item_digest(array: np.ndarray) -> bytes:
    """SHA-256 of an array's shape, dtype and values: 32 bytes."""
    array = np.ascontiguousarray(array)
    sha = hashlib.sha256(f"{array.shape} {array.dtype}".encode())
    sha.update(array)
    return sha.digest()


def stack(items: Sequence[np.ndarray], indices: Sequence[int]) -> np.ndarray:
    """The items at ``indices``, all of one shape, as a new array (n, ...)."""
    if hasattr(items, "take"):                     # an array, or a column of a store
        return items[np.asarray(indices)]
    return np.stack([items[i] for i in indices])


def item_shapes(items: Sequence[np.ndarray]) -> set[tuple[int, ...]]:
    """The shapes that occur among ``items``; reads no values."""
    if isinstance(items, np.ndarray):
        return {items.shape[1:]}
    return items.item_shapes() if hasattr(items, "item_shapes") else {item.shape for item in items}


def to_uint8(images: np.ndarray) -> np.ndarray:
    """uint8 as it is; float32 0..1 to 0..255, rounded."""
    return images if images.dtype == np.uint8 else np.round(255 * images).clip(0, 255).astype(np.uint8)
