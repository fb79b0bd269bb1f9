"""Which source files move a run's numbers, and their fingerprint: a changed one makes a new ``run_id``."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from harness.networks import source_file

ROOT = Path(__file__).parent.parent

# How a number is made. Tables, plots, reports and the command line only show it.
MOVES_NUMBERS = ("variants/**/*.py", "harness/suites/*.py", "harness/metrics/*.py", "harness/diffusion.py",
                 "harness/losses.py", "harness/measure.py", "harness/run.py", "harness/train.py",
                 "harness/compilation.py", "harness/energy.py", "harness/roofline.py", "harness/inspection/memory.py",
                 "harness/inspection/allocations.py", "harness/inspection/traffic.py")
# These only find a network or a suite by its name: what is found is followed by its file.
FIND_BY_NAME = ("variants/__init__.py", "variants/registry.py", "harness/suites/__init__.py")
EVERY_RUN = ("harness/run.py", "harness/train.py")
REGISTRY = "FolderRegistry"                        # who makes one may load any file of its folder


def code_fingerprint(variant: str, suite: str, root: Path = ROOT) -> str:
    """Hash of the files in :data:`MOVES_NUMBERS` that a run of ``variant`` in ``suite`` can reach by importing.

    A network in a file elsewhere adds its own bytes and what it imports from here; one that an installed package
    offers may import anything, so every network counts. Data sets do not: what they make is hashed itself.
    """
    files = reached([root / name for name in EVERY_RUN] + [root / f"harness/suites/{suite}.py"], root)
    own, registered = source_file(variant), root / f"variants/{variant}.py"
    if own is not None:
        files |= reached([own], root, by_name=True)
    elif registered.is_file():
        files |= reached([registered], root, by_name=True)
    else:
        files |= set(root.glob("variants/**/*.py"))
    moving = {path for pattern in MOVES_NUMBERS for path in root.glob(pattern)}
    moving -= {root / name for name in FIND_BY_NAME}
    sha = hashlib.sha256()
    for path in sorted(files & moving):
        sha.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    if own is not None:
        sha.update(own.read_bytes())
    return sha.hexdigest()[:16]


def reached(files: Iterable[Path], root: Path, by_name: bool = False) -> set[Path]:
    """``files`` and the files under ``root`` that they import, directly or not, inside functions or outside.

    ``by_name``: where one makes a registry of its folder, and so may import by name, the whole folder is reached.
    """
    found, waiting = set(), list(files)
    while waiting:
        path = waiting.pop()
        if path in found or not path.is_file():
            continue
        found.add(path)
        content = path.read_bytes()
        if by_name and makes_registry(content):
            waiting.extend(path.parent.glob("*.py"))
        inside = path.relative_to(root).with_suffix("").parts if path.is_relative_to(root) else ()
        waiting.extend(file for module in imported(content, inside) for file in files_of(module, root))
    return found


@lru_cache(maxsize=1024)
def imported(content: bytes, inside: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Dotted names that the source ``content`` imports; ``inside`` is its own, for relative imports.

    ``from a import b`` gives ``a.b``, which may be a module or something in ``a``. Raises nothing: a file that is
    not Python imports nothing, and fails where it is run.
    """
    try:
        nodes = list(ast.walk(ast.parse(content)))
    except (SyntaxError, ValueError):
        return ()
    names = []
    for node in nodes:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [*inside[:len(inside) - node.level]] if node.level else []
            base += node.module.split(".") if node.module else []
            names += [".".join([*base, alias.name]) for alias in node.names]
    return tuple(dict.fromkeys(names))


def files_of(module: str, root: Path) -> Iterator[Path]:
    """The file under ``root`` that ``module`` names, or that defines it, and those of the packages it is in.

    ``variants/__init__.py`` counts only where it is named itself: every network has it for a package.
    """
    parts = module.split(".")
    if not (root / parts[0]).is_dir() or parts[0] not in ("variants", "harness"):
        return
    for length in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:length])
        leaf = length == len(parts)
        if place.with_suffix(".py").is_file():
            yield place.with_suffix(".py")
            return
        if (place / "__init__.py").is_file():
            below = None if leaf else place / parts[length]
            named = leaf or not (below.is_dir() or below.with_suffix(".py").is_file())
            if named or length > 1:
                yield place / "__init__.py"


@lru_cache(maxsize=1024)
def makes_registry(content: bytes) -> bool:
    """Does this source call :class:`variants.registry.FolderRegistry`?"""
    try:
        nodes = ast.walk(ast.parse(content))
    except (SyntaxError, ValueError):
        return False
    return any(isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", None)) == REGISTRY
               for node in nodes)
