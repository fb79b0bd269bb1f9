"""Arrays end to end in one flat file, read as a memory map: a column of a store."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

# Pages that a process has read through a map count as its memory until they are given back. After so many bytes a
# column gives its own back: they stay in the system's file cache, from where they are mapped again at need.
KEPT_BYTES = 128 * 2**20


class Column(Sequence):
    """Arrays of one dtype in a flat file, in order; item ``i`` is a read-only view of the file.

    Where all have one shape it behaves as an array (N, ...) and holds nothing per item: ``column[i]``,
    ``column[a:b]`` and ``column.shape`` are those of the array, ``column[indices]`` a copy. Otherwise ``column[a:b]``
    is a list of views and ``column[indices]`` needs items of one shape. A column pickles as its path.

    ``shapes``   one shape for all items, or an array (N, d) of the shape of each.
    ``digests``  (N,) of 32 bytes each, known only while a store is being built.
    """

    def __init__(self, path: Path, dtype: np.dtype | str, shapes: tuple[int, ...] | np.ndarray, start: int, stop: int,
                 digests: Sequence[bytes] | None = None, offsets: np.ndarray | None = None):
        self.path, self.dtype, self.start, self.stop = path, np.dtype(dtype), start, stop
        self.shapes, self.digests, self.offsets, self._map, self._read = shapes, digests, offsets, None, 0
        if not isinstance(shapes, tuple) and offsets is None:
            sizes = np.prod(shapes, axis=1, dtype=np.int64)
            self.offsets = np.concatenate([[0], np.cumsum(sizes)])           # in items of the dtype

    def part(self, start: int, stop: int) -> Column:
        """Items ``start`` to ``stop`` - 1 as a column of their own."""
        return Column(self.path, self.dtype, self.shapes, self.start + start, self.start + stop,
                      None if self.digests is None else self.digests[start:stop], self.offsets)

    def __reduce__(self):
        return Column, (self.path, self.dtype, self.shapes, self.start, self.stop, None, self.offsets)

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def uniform(self) -> bool:
        """Whether all items have one shape."""
        return isinstance(self.shapes, tuple)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, ...) of a uniform column."""
        if not self.uniform:
            raise AttributeError("items of this column differ in shape")
        return len(self), *self.shapes

    def item_shapes(self) -> set[tuple[int, ...]]:
        """The shapes that occur; reads no values."""
        if self.uniform:
            return {self.shapes}
        return {tuple(map(int, shape)) for shape in np.unique(self.shapes[self.start:self.stop], axis=0)}

    def all_shapes(self) -> list[tuple[int, ...]]:
        """The shape of every item, in order; reads no values."""
        return [self.shapes] * len(self) if self.uniform else list(map(tuple, self.shapes[self.start:self.stop]))

    def __getitem__(self, index):
        if isinstance(index, (int, np.integer)):
            index = int(index) + (len(self) if index < 0 else 0)
            if not 0 <= index < len(self):
                raise IndexError(index)
            return self._item(self.start + index)
        if isinstance(index, slice):
            first, last, step = index.indices(len(self))
            if not self.uniform or step != 1:
                return [self[i] for i in range(first, last, step)]
            last = max(first, last)
            return self._view(self.start + first, self.start + last)
        return self.take(index)

    def take(self, indices: Sequence[int]) -> np.ndarray:
        """A new array (n, ...) of the items at ``indices``, which have one shape."""
        indices = np.asarray(indices)
        if not self.uniform:
            return np.stack([self[int(i)] for i in indices])
        size = int(np.prod(self.shapes, dtype=np.int64))
        self._count(len(indices) * size)
        return self._array(self.start * size, self.stop * size).reshape(len(self), *self.shapes)[indices]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        """All items of a uniform column: the map itself, unless ``dtype`` or ``copy`` ask for another."""
        if not self.uniform:
            raise ValueError("items of this column differ in shape")
        array = self._view(self.start, self.stop)
        return array.astype(dtype or self.dtype) if copy or (dtype and dtype != self.dtype) else array

    def _item(self, index: int) -> np.ndarray:
        if self.uniform:
            return self._view(index, index + 1)[0]
        return self._values(*self.offsets[index:index + 2]).reshape(self.shapes[index])

    def _view(self, first: int, last: int) -> np.ndarray:
        size = int(np.prod(self.shapes, dtype=np.int64))
        return self._values(first * size, last * size).reshape(last - first, *self.shapes)

    def _values(self, first: int, last: int) -> np.ndarray:
        self._count(int(last - first))
        return self._array(int(first), int(last))

    def _array(self, first: int, last: int) -> np.ndarray:
        """Values ``first`` to ``last`` - 1 of the file, flat."""
        if self._map is None:
            with open(self.path, "rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(self._map, self.dtype, last - first, first * self.dtype.itemsize)

    def _count(self, values: int) -> None:
        """Note that so many are about to be read, and give back what was read before where that was much."""
        self._read += values * self.dtype.itemsize
        if self._read > KEPT_BYTES:
            if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
                self._map.madvise(mmap.MADV_DONTNEED)
            self._read = values * self.dtype.itemsize
