"""What a network outside of this repository is made of: its file and its helpers, and installed packages.

Nothing is executed: modules are found on ``sys.path``, and beside the network's file, by their names.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sysconfig
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from harness.identity.networks import installed, package_of, source_file
from harness.identity.syntax import located, named, read_source
from harness.record import PACKAGES

HERE = ("variants", "harness")                     # packages of this repository
INSTALLED = {"site-packages", "dist-packages"}     # folders of installed packages
LIBRARY = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
SUFFIXES = (*EXTENSION_SUFFIXES, ".py")            # in the order in which Python looks for them


@dataclass
class ForeignCode:
    """What a run reaches outside of this repository."""

    files: dict[str, Path] = field(default_factory=dict)    # place, seen from where its import starts -> file
    packages: dict[str, str] = field(default_factory=dict)  # installed distribution -> version
    here: list[tuple[Path, bool]] = field(default_factory=list)  # what it imports from here, for ``sources.reached``


def foreign_code(variant: str, root: Path) -> ForeignCode:
    """What the network ``path/file.py:Net``, ``module:Net`` or of an entry point is made of.

    A file counts by its syntax and what it imports beside itself, relatively, or on ``sys.path``; a package in
    site-packages by name and version, without what it depends on. Versions that every record states in its
    environment (:data:`harness.record.PACKAGES`: torch and others) do not count, as they do not for the networks here.
    Where the files lie does not count, only their places seen from each other.
    """
    found, seen = ForeignCode(), set()
    own = source_file(variant)
    if own is not None:
        own = Path(os.path.abspath(own))
        beside, name = package_of(own)             # where its absolute imports start, and what it is called there
        packages = [] if here(own, root) else located(beside, tuple(name.split(".")), SUFFIXES)
        waiting = [(file, beside) for file in (own, *packages)]
    else:
        module = installed()[variant].module if variant in installed() else variant.rpartition(":")[0]
        waiting = on_path(tuple(module.split(".")), found)
    while waiting:
        path, start = waiting.pop()
        if path in seen or not path.is_file():
            continue
        seen.add(path)
        if here(path, root):
            found.here.append((path, True))
            continue
        found.files[Path(os.path.relpath(path, start)).as_posix()] = path
        for one in read_source(path).imports:
            if one.level:
                folder = path.parents[min(one.level, len(path.parents)) - 1]
                waiting += [(file, start) for file in (folder / "__init__.py", *located(folder, one.parts, SUFFIXES))]
            elif one.parts[0] in HERE:
                found.here += named(located(root, one.parts))
            else:
                if own is not None:
                    waiting += [(file, beside) for file in located(beside, one.parts, SUFFIXES)]
                waiting += on_path(one.parts, found)
    return found


def here(path: Path, root: Path) -> bool:
    """Tell whether a file is one of this repository's packages."""
    return any(path.is_relative_to(root / package) for package in HERE)


def on_path(parts: tuple[str, ...], found: ForeignCode) -> list[tuple[Path, Path]]:
    """Files that importing ``parts`` runs, each with the folder that its top-level name lies in.

    [] for the standard library, and for an installed package, which goes into ``found.packages``.
    """
    try:
        spec = importlib.util.find_spec(parts[0])  # of a top-level name: nothing is imported
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        folders = [Path(folder) for folder in spec.submodule_search_locations]
    else:
        folders = [Path(spec.origin)] if spec.has_location and spec.origin else []
    in_packages = any(INSTALLED & set(folder.parts) for folder in folders)
    if in_packages and parts[0] in top_levels():
        found.packages |= {name: metadata.version(name) for name in top_levels()[parts[0]] if name not in STATED}
        return []
    if not in_packages and any(folder.is_relative_to(library) for folder in folders for library in LIBRARY):
        return []
    return [(file, folder.parent) for folder in folders for file in
            ((folder / "__init__.py", *located(folder, parts[1:], SUFFIXES)) if folder.is_dir() else (folder,))]


def normalized(name: str) -> str:
    """A distribution's name as indexes spell it: ``torch_fidelity`` -> ``torch-fidelity``."""
    return re.sub(r"[-_.]+", "-", name).lower()


STATED = {normalized(name) for name in PACKAGES}


@lru_cache(maxsize=1)
def top_levels() -> dict[str, list[str]]:
    """Top-level module -> the installed distributions that hold it. It takes a moment, so it is asked once."""
    return {name: sorted({normalized(one) for one in distributions})
            for name, distributions in metadata.packages_distributions().items()}
