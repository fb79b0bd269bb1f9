"""Data decoded once: flat files with an index, opened as read-only memory maps by every process that needs them.

::

    CACHE/data/FINGERPRINT/index.json      what there is; names.json, NAME.bin, ... beside it, with their sizes
    CACHE/data/requests/DIGEST.json        which store a request led to, and the files it was made of

A store is whole or absent: it is built in a folder of its own and renamed. A request is a data set's name, place,
options, the fields asked for and the data set's code; its files count as unchanged while path, size and time of
change are.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

from filelock import FileLock, Timeout

from harness import datasets
from harness.dataset import Dataset
from harness.datasets.parts.parallel import FileDecoder
from harness.datasets.parts.store_files import (
    NOT_CONTENT,
    Torn,
    describe_source,
    read_store,
    rename_store,
    write_store,
)
from harness.errors import InputError, is_disk_full
from harness.record import alive, atomic_write
from harness.spec import DataSpec, digest

Progress = Callable[..., None]
Listing = dict[str, list[int]]                     # path -> [size, mtime in ns]

BUILDING = ".building"
LIBRARIES = ("numpy", "Pillow", "scikit-image", "scikit-learn", "scipy", "tifffile", "torchvision")


def prepare(spec: DataSpec, needs: tuple[str, ...], cache: Path, progress: Progress = lambda **event: None) -> Dataset:
    """The data of ``spec`` as memory maps, from the store where it holds them, else decoded into it now.

    ``needs``: the fields that are asked for. ``progress(stage=..., step=..., total=...)`` hears what takes time.

    Raises
    ------
    InputError
        As the data set's ``load`` does; files that change while they are read; a disk that is full or cannot be
        written, naming it.
    """
    module = datasets.registry.load(spec.name)
    require_fits(module, spec, needs)
    arguments = {"root": spec.root, **spec.options}
    place = None if spec.root is None else str(Path(spec.root).resolve())
    key = digest({"name": spec.name, "root": place, "options": spec.options, "needs": list(needs),
                  "code": code_of(module)})
    request = cache / "data" / "requests" / f"{key}.json"

    def listed() -> Listing:
        return listing(module.sources(**arguments), spec.root) if hasattr(module, "sources") else {}

    def beside() -> dict[str, Any]:
        """What may change beside the files that are listed."""
        return {"passed_over": module.passed_over(needs, **arguments)} if hasattr(module, "passed_over") else {}

    before = listed()                              # refuses what is not there before anything is written
    stored = remembered(request, before, beside, cache, progress)
    if stored is not None:
        return stored
    with folder_for(request), locked(request, progress):
        stored = remembered(request, before, beside, cache, progress)
        if stored is not None:                     # by the process that was waited for
            return stored
        remove_leftovers(cache / "data")
        with building(cache / "data", progress) as decoder:
            services = {"decode": decoder} if "decode" in inspect.signature(module.load).parameters else {}
            dataset = module.load(needs, download=spec.download, **arguments, **services)
            after = listed()
            if after != before and (before or not spec.download):
                raise InputError(f"{describe_change(before, after)} while the data were read; repeat the command "
                                 "when nothing writes to them")
            finish(dataset, decoder.folder, cache)
            atomic_write(request, json.dumps({"fingerprint": dataset.fingerprint, "facts": facts_of(dataset),
                                             "files": after}).encode())
    return described(open_stored(cache, dataset.fingerprint), facts_of(dataset))


def open_stored(cache: Path, fingerprint: str) -> Dataset:
    """The data set that :func:`prepare` or :func:`keep` has stored in ``cache``.

    Raises InputError where it is absent or torn.
    """
    folder = cache / "data" / fingerprint
    try:
        return read_store(folder)
    except FileNotFoundError:
        raise InputError(f"no data of fingerprint {fingerprint} in {cache / 'data'}; repeat the command that "
                         "prepares them") from None
    except Torn as damage:
        raise InputError(f"the stored data in {folder} are damaged ({damage}); repeat the command, which decodes "
                         "them anew") from None


def keep(dataset: Dataset, cache: Path) -> Dataset:
    """``dataset`` as memory maps, stored in ``cache`` unless it is there already. Raises InputError for a full disk."""
    folder = cache / "data" / dataset.fingerprint
    try:
        return described(read_store(folder), facts_of(dataset))
    except (FileNotFoundError, Torn):
        pass
    with folder_for(folder), building(folder.parent) as decoder:
        finish(dataset, decoder.folder, cache)
    return open_stored(cache, dataset.fingerprint)


def finish(dataset: Dataset, folder: Path, cache: Path) -> None:
    write_store(dataset, folder)
    rename_store(folder, cache / "data" / dataset.fingerprint)


def facts_of(dataset: Dataset) -> dict[str, Any]:
    """What is known of ``dataset`` and is no part of its content: its name, groups, files passed over."""
    return {name: getattr(dataset, name) for name in NOT_CONTENT}


def described(stored: Dataset, facts: Mapping[str, Any]) -> Dataset:
    """``stored`` with these ``facts``, which are no part of the content; kept in its index."""
    if facts_of(stored) == facts:
        return stored
    describe_source(stored.folder, facts)
    return replace(stored, **facts)


def require_fits(module: ModuleType, spec: DataSpec, needs: tuple[str, ...]) -> None:
    """Raise InputError for a field that the data set does not hold, or an option that it does not take."""
    for name in needs:
        if name not in module.FIELDS:
            raise InputError(f"data set {spec.name!r} has no {name}, only {' and '.join(module.FIELDS)}")
    known = set(inspect.signature(module.load).parameters) - {"needs", "root", "download", "decode"}
    for option in spec.options:
        if option not in known:
            raise InputError(f"data set {spec.name!r}: load() got an unexpected keyword argument {option!r}")


def code_of(module: ModuleType) -> str:
    """Hash of what decides what a data set makes of its files and options: its code, and libraries that decode."""
    own = Path(inspect.getfile(module))
    parts = sorted(Path(__file__).parent.glob("*.py"))
    return digest([*(hashlib.sha256(path.read_bytes()).hexdigest() for path in (own, *parts)),
                   *(version(library) for library in LIBRARIES)])


def listing(paths: Iterable[Path], root: str | None) -> Listing:
    """Size and time of change of every file, by its path in ``root``."""
    found, start = {}, f"{root}{os.sep}"
    for path in paths:
        try:
            status = os.stat(path)
        except FileNotFoundError:                  # it was there a moment ago
            continue
        found[str(path).removeprefix(start)] = [status.st_size, status.st_mtime_ns]
    return dict(sorted(found.items()))


def describe_change(before: Listing, after: Listing) -> str:
    """"FILE was added", "removed" or "changed": the first file that differs."""
    path = min(path for path in {*before, *after} if before.get(path) != after.get(path))
    return f"{path} was {'added' if path not in before else 'removed' if path not in after else 'changed'}"


def remembered(request: Path, files: Listing, beside: Callable[[], dict[str, Any]], cache: Path,
               progress: Progress) -> Dataset | None:
    """The store that this request led to before, if its ``files`` are as they were and it is whole.

    ``beside`` looks anew at facts that do not hang on these files.
    """
    try:
        known = json.loads(request.read_bytes())
        fingerprint, facts, before = (known[key] for key in ("fingerprint", "facts", "files"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if before != files:
        progress(stage=f"{describe_change(before, files)} since the data were decoded: decoding anew")
        return None
    try:
        return described(read_store(cache / "data" / fingerprint), {**facts, **beside()})
    except FileNotFoundError:
        return None
    except Torn as damage:
        progress(stage=f"the stored data are damaged ({damage}): decoding anew")
        return None


@contextmanager
def folder_for(path: Path) -> Iterator[None]:
    """The folder that ``path`` lies in, made where it is absent; folders made here go again where they stay empty.

    Raises InputError where it cannot be made.
    """
    absent = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {path.parent} cannot be written: {error.strerror}") from None
    try:
        yield
    finally:
        for folder in absent:
            try:
                folder.rmdir()
            except OSError:                        # something lies in it
                break


@contextmanager
def locked(request: Path, progress: Progress) -> Iterator[None]:
    """One process at a time for a request; a lock goes with the process that holds it, however that ends."""
    path = request.with_suffix(".lock")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress(stage="waiting for another process that decodes the same data")
        lock.acquire()
    except OSError as error:
        raise InputError(f"the folder {path.parent} cannot be written: {error.strerror}") from None
    try:
        yield
    finally:
        if not request.exists():
            path.unlink(missing_ok=True)
        lock.release()


@contextmanager
def building(data: Path, progress: Progress = lambda **event: None) -> Iterator[FileDecoder]:
    """A decoder into a folder of its own in ``data``, which goes in the end unless it was renamed.

    Raises InputError where the disk is full, naming it.
    """
    folder = data / f"{BUILDING}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    decoder = FileDecoder(folder, progress)
    try:
        yield decoder
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        if is_disk_full(error):
            raise InputError(no_room(data, decoder.needed)) from None
        if error.filename and Path(error.filename).is_relative_to(data):
            raise InputError(f"{error.filename} cannot be written: {error.strerror}") from None
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def no_room(folder: Path, needed: int) -> str:
    """What is said of a full disk: which one, what is free, what decoded data take."""
    disk = next(path for path in (folder.resolve(), *folder.resolve().parents) if os.path.ismount(path))
    free = shutil.disk_usage(folder).free
    return (f"no room for decoded data in {folder}: they take about {needed / 2**20:,.1f} MiB or more, and the disk "
            f"{disk} has {free / 2**20:,.1f} MiB free")


def remove_leftovers(data: Path) -> None:
    """Remove what processes of this machine left that were killed while they built a store."""
    for folder in data.glob(f"{BUILDING}-{socket.gethostname()}-*"):
        if not alive(int(folder.name.removesuffix("-torn").rsplit("-", 2)[1])):
            shutil.rmtree(folder, ignore_errors=True)
