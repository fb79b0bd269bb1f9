"""One source file as syntax: its hash without comments and docstrings, and what it imports."""

from __future__ import annotations

import ast
import hashlib
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from os.path import isdir, isfile
from pathlib import Path
from typing import Any

REGISTRY = "FolderRegistry"                        # who makes one may load any file of its folder
HAVE_DOCSTRINGS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Import:
    """``from ..a import b`` is level 2, ("a", "b"): ``b`` may be a module, or something in ``a``."""

    level: int                                     # 0 = absolute
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """What the fingerprint needs to know of a file."""

    digest: str                                    # of its syntax; of its bytes where they are not Python
    imports: tuple[Import, ...] = ()               # anywhere in it, inside functions too
    makes_registry: bool = False                   # does it call ``variants.registry.FolderRegistry``


_sources: dict[Path, tuple[int, int, Source]] = {}  # path -> time of change, size, what was in it then


def read_source(path: Path) -> Source:
    """The file as syntax, parsed again only where its size or time of change is another. Raises OSError."""
    stat = os.stat(path)
    known = _sources.get(path)
    if known is None or known[:2] != (stat.st_mtime_ns, stat.st_size):
        known = _sources[path] = (stat.st_mtime_ns, stat.st_size, parsed(path.read_bytes()))
    return known[2]


def parsed(content: bytes) -> Source:
    """``content`` as syntax. What is not Python imports nothing, and fails where it is run."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")        # of old escapes; who imports the file hears of them
            tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Source(hashlib.sha256(content).hexdigest())
    nodes = list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, HAVE_DOCSTRINGS) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
        elif isinstance(node, ast.JoinedStr):      # Python 3.12 ends some f-strings with an empty text
            node.values = [part for part in node.values if getattr(part, "value", None) != ""]
    registry = any(isinstance(node, ast.Call) and REGISTRY == getattr(node.func, "id", getattr(node.func, "attr", None))
                   for node in nodes)
    text = "\0".join(words(tree))
    return Source(hashlib.sha256(text.encode()).hexdigest(), tuple(dict.fromkeys(imports(nodes))), registry)


def words(tree: ast.AST) -> Iterator[str]:
    """The tree in prefix notation, each node and list with its length, so that no two trees read alike.

    Fields that are None or empty are left out, and strings are written in ASCII: that is what differs between
    ``ast.dump`` of Python 3.11 and of later versions (new fields, other defaults, another Unicode).
    """
    waiting: list[Any] = [tree]
    while waiting:
        value = waiting.pop()
        if isinstance(value, ast.AST):
            fields = [(name, inner) for name in value._fields
                      if (inner := getattr(value, name, None)) is not None and inner != []]
            yield f"{type(value).__name__} {len(fields)}"
            for name, inner in reversed(fields):
                waiting += (inner, name)
        elif isinstance(value, list):
            yield f"list {len(value)}"
            waiting.extend(reversed(value))
        else:                                      # Python refuses to write integers of 4,300 digits in decimal
            yield hex(value) if type(value) is int else ascii(value)


def imports(nodes: list[ast.AST]) -> Iterator[Import]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (Import(0, tuple(alias.name.split("."))) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module.split(".") if node.module else []
            yield from (Import(node.level, (*base, alias.name)) for alias in node.names)


def located(folder: Path, parts: tuple[str, ...], suffixes: tuple[str, ...] = (".py",)) -> list[Path]:
    """Files under ``folder`` that importing the dotted name runs: packages on the way, then what it names.

    A last part that is no file is something in the one before it. [] where ``folder`` holds nothing of it.
    """
    files, place = [], str(folder)
    for part in parts:
        place = f"{place}/{part}"
        if isfile(f"{place}/__init__.py"):
            files.append(Path(place, "__init__.py"))
        elif module := next((place + suffix for suffix in suffixes if isfile(place + suffix)), None):
            return [*files, Path(module)]
        elif not isdir(place):
            break
    return files


def named(files: list[Path]) -> list[tuple[Path, bool]]:
    """``files`` of :func:`located`, each with whether it is what the name names, or a package on the way."""
    return [(file, i == len(files) - 1) for i, file in enumerate(files)]
