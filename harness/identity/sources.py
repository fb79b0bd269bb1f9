"""Which source files a run reaches, and their fingerprint: a changed one makes a new ``run_id``."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from harness.identity.foreign_code import HERE, ForeignCode, foreign_code
from harness.identity.syntax import located, named, read_source
from harness.spec import digest

ROOT = Path(__file__).parents[2]
RUN = "harness/run.py"                             # what makes a run; the rest is reached from here by importing

# Every file that a run reaches counts, but these: pattern -> why it cannot move a number. Comments and
# docstrings of any file do not count.
EXEMPT = {
    "variants/__init__.py": "finds a network by its name; the network that is found is followed from its own file",
    "variants/registry.py": "finds a file by its name; the file that is found counts",
    "harness/identity/networks.py": "finds a network by its name; that network is followed from its own file",
    "harness/suites/__init__.py": "finds a suite by its name, and says what it is given; the suite's own file counts",
    "harness/spec.py": "says what fields a run has; their values are its identity, and a new field must not be one",
    "harness/record.py": "writes down what was computed, and where",
    "harness/record_form.py": "checks the form of records that are read",
    "harness/identity/migrations.py": "reads records of older schemas",
    "harness/errors.py": "words for people",
    "harness/dataset.py": "holds the data, whose content is hashed itself",
    "harness/datasets/*": "makes the data, whose content is hashed itself",
}


def exempt(name: str) -> bool:
    """Is the file of this name, relative to the root, one that moves no number?"""
    return any(fnmatchcase(name, pattern) for pattern in EXEMPT)


def code_fingerprint(variant: str, suite: str, root: Path = ROOT) -> str:
    """Hash of the syntax of all files that a run of ``variant`` in ``suite`` reaches by importing, less EXEMPT.

    A network from elsewhere adds what it reaches outside of this repository (:mod:`harness.identity.foreign_code`); one
    whose source is not found, or lies in an installed package, may import any network from here, so all of them count.
    What is imported by a name that is computed (``importlib``) is seen only where a :class:`FolderRegistry` does it.
    """
    files = reached([(root / RUN, True), (root / f"harness/suites/{suite}.py", True)], root)
    registered, foreign = root / f"variants/{variant}.py", ForeignCode()
    if ":" not in variant and registered.is_file():
        files |= reached([(registered, True)], root, by_name=True)
    else:
        foreign = foreign_code(variant, root)
        files |= reached(foreign.here, root, by_name=True)
        if not foreign.files and not foreign.here:
            files |= set(root.glob("variants/**/*.py"))
    names = {path: path.relative_to(root).as_posix() for path in files}
    return digest({"here": {name: read_source(path).digest for path, name in names.items() if not exempt(name)},
                   "elsewhere": {name: read_source(path).digest for name, path in foreign.files.items()},
                   "packages": foreign.packages})


def reached(files: Iterable[tuple[Path, bool]], root: Path, by_name: bool = False) -> set[Path]:
    """``files`` and the files of this repository that they import, directly or not, inside functions or outside.

    Each comes with whether it is named itself, or is only a package on the way to a module. One that is named and
    makes a registry of its folder may load any file of it: all of them are reached. Without ``by_name`` this does
    not hold for networks and what EXEMPT names, where the file that is loaded is a start of its own.
    """
    seen: set[tuple[Path, bool]] = set()
    waiting = [item for item in files if item[0].is_file()]
    while waiting:
        path, itself = item = waiting.pop()
        if item in seen:
            continue
        seen.add(item)
        source, name = read_source(path), path.relative_to(root).as_posix()
        if itself and source.makes_registry and (by_name or not (exempt(name) or name.startswith("variants/"))):
            waiting += [(file, True) for file in path.parent.glob("*.py")]
        for one in source.imports:
            if one.level:
                waiting += named(located(path.parents[min(one.level, len(path.parents)) - 1], one.parts))
            elif one.parts[0] in HERE:
                waiting += named(located(root, one.parts))
    return {path for path, _ in seen}
