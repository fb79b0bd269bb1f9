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
    image_size: tuple[int, int]                    # (H, W) of an image; the largest H and W where sizes differ
    ignore: int | None = None                      # mask value that counts neither in a loss nor in a metric
    background: int | None = 0                     # class that means over classes leave out; None: all of them count
    fingerprint: str = ""                          # content hash; computed from the splits where empty
    ignored_pixels: Mapping[str, int] | None = None    # split -> pixels of the value ``ignore``
    groups: Mapping[str, int] | None = None        # split -> number of groups (patients, films) that were kept whole
    passed_over: Mapping[str, int] | None = None   # kind of file -> how many lie beside the data and are not used
    # split -> an earlier split -> how many of its images have the pixels of one there; found with the fingerprint
    duplicates: Mapping[str, Mapping[str, int]] | None = None
    folder: Path | None = field(default=None, compare=False)   # of the store that holds it; None: in memory

    def __post_init__(self):
        if not self.fingerprint:
            digests = [digests_of(getattr(self, name).images) for name in SPLITS]
            object.__setattr__(self, "fingerprint", self._content_hash(digests))
            object.__setattr__(self, "duplicates", count_duplicates(dict(zip(SPLITS, digests, strict=True))))

    @property
    def channels(self) -> int:
        return self.train.images[0].shape[0]

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that every split holds."""
        return tuple(name for name in FIELDS if getattr(self.train, name) is not None)

    def describe(self) -> dict:
        """For the record: name, fields, image shape, classes, split sizes, content hash; and, where there are any,
        ignored pixels, groups, files passed over, images that stand in two splits.
        """
        found = {"name": self.name, "fields": list(self.fields), "channels": self.channels,
                 "image_size": list(self.image_size), "classes": list(self.class_names),
                 "splits": {name: len(getattr(self, name)) for name in SPLITS}, "fingerprint": self.fingerprint}
        if self.ignore is not None:
            found |= {"ignore": self.ignore, "ignored_pixels": dict(self.ignored_pixels or {})}
        if self.groups is not None:
            found["groups"] = dict(self.groups)
        if self.passed_over:
            found["passed_over"] = dict(self.passed_over)
        if self.duplicates:
            found["duplicates"] = {split: dict(others) for split, others in self.duplicates.items()}
        return found

    def _content_hash(self, image_digests: Sequence[Sequence[bytes]]) -> str:
        """SHA-256 over classes, names and every item's digest, split by split in order (first 16 hex digits).

        A background counts where it is not class 0, ``image_digests`` are those of train, validation and test.
        """
        own = [self.class_names, self.ignore, *([] if self.background == 0 else [{"background": self.background}])]
        sha = hashlib.sha256(json.dumps(own).encode())
        for split, images in zip((self.train, self.validation, self.test), image_digests, strict=True):
            sha.update(json.dumps(list(split.names)).encode())
            for name in FIELDS:
                items = getattr(split, name)
                if items is None:
                    continue
                sha.update(name.encode())
                if name == "labels":
                    sha.update(np.asarray(items, np.int64).tobytes())
                    continue
                for digest in images if name == "images" else digests_of(items):
                    sha.update(digest)
        return sha.hexdigest()[:16]


def digests_of(items: Sequence[np.ndarray]) -> Sequence[bytes]:
    """The :func:`item_digest` of every item; of a column, those that were computed while decoding."""
    known = getattr(items, "digests", None)
    return known if known is not None else [item_digest(item) for item in items]


def count_duplicates(digests: Mapping[str, Sequence[bytes]]) -> dict[str, dict[str, int]]:
    """Of every split, how many images have the digest of one in an earlier split, a mapping of splits.

    >>> count_duplicates({"train": [b"a", b"b"], "validation": [b"c"], "test": [b"a", b"d"]})
    {'test': {'train': 1}}
    """
    found, before = {}, {}
    for split, own in digests.items():
        shared = {other: sum(digest in there for digest in own) for other, there in before.items()}
        shared = {other: count for other, count in shared.items() if count}
        if shared:
            found[split] = shared
        before[split] = set(own)
    return found


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


def count_smaller(items: Sequence[np.ndarray], size: tuple[int, int]) -> int:
    """How many images are smaller than ``size`` (H, W) in one direction or both; reads no values."""
    shapes = items.all_shapes() if hasattr(items, "all_shapes") else (item.shape for item in items)
    return sum(int(shape[-2]) < size[0] or int(shape[-1]) < size[1] for shape in shapes)


def to_uint8(images: np.ndarray) -> np.ndarray:
    """uint8 as it is; float32 0..1 to 0..255, rounded."""
    return images if images.dtype == np.uint8 else np.round(255 * images).clip(0, 255).astype(np.uint8)
