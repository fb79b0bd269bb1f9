"""Networks by name: registered here, offered by an installed package, or written in anyone's file."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import variants
from harness.errors import InputError, unknown

ENTRY_POINTS = "unet_bench.variants"


def installed() -> dict[str, EntryPoint]:
    """Networks that installed packages offer through the entry point group ``unet_bench.variants``."""
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def source_file(name: str) -> Path | None:
    """The file that a ``path/to/file.py:Class`` name points at; None for any other name."""
    path, colon, _ = name.rpartition(":")
    return Path(path) if colon and path.endswith(".py") else None


def check(name: str) -> None:
    """Raise InputError for a name that cannot be a network, without importing it (nor torch)."""
    file = source_file(name)
    if file is not None:
        if not file.is_file():
            raise InputError(f"variant {name!r}: there is no file {file}")
    elif ":" not in name and name not in variants.names() and name not in installed():
        raise unknown("variant", name, [*variants.names(), *installed()])


def factory(name: str) -> Callable:
    """What builds the network: called with the arguments of the contract in ``variants``.

    Raises InputError for an unknown name, a module that cannot be found, or a missing attribute.
    """
    check(name)
    if name in variants.names():
        return variants.registry.load(name).build
    if name in installed():
        return installed()[name].load()
    module_name, _, attribute = name.rpartition(":")
    file = source_file(name)
    try:
        module = import_file(file) if file else importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise InputError(f"variant {name!r}: {error}") from error
    if not hasattr(module, attribute):
        raise InputError(f"variant {name!r}: {file or module_name} has no {attribute!r}")
    return getattr(module, attribute)


def import_file(path: Path):
    """The module in ``path``, imported under a name of its own."""
    spec = importlib.util.spec_from_file_location(f"variant_file_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def all_names() -> list[str]:
    """Registered networks, then those of installed packages."""
    return [*variants.names(), *installed()]
