"""The one error that is shown to people as one line, and the did-you-mean that goes with it."""

from __future__ import annotations

import difflib
import errno
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:                                  # its errors are read, not made
    from pydantic import ValidationError


class InputError(ValueError):
    """Something the person gave is wrong. The command line prints its text and exits with code 2."""


def printable(text: str) -> str:
    """``text`` on one line that every terminal and file takes: line breaks, control characters and lone surrogates
    (of file names that are not UTF-8) are written as escapes."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def one_line(error: BaseException, most: int = 500) -> str:
    """What an error says, on one printable line of at most ``most`` characters; its type where it says nothing."""
    try:
        text = str(error)[:20 * most]
    except BaseException:                          # an error of other people's code may fail or exit at this, too
        text = ""
    return printable(" ".join(text.split()))[:most] or type(error).__name__


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """An :class:`InputError` for a name that does not exist, with the nearest one that does."""
    names = sorted(known)
    begun = [known for known in names if name and known.startswith(name)]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5) or begun
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return InputError(f"unknown {kind} {name!r}{hint} (known: {', '.join(names)})")


class DiskFull(OSError):
    """The disk that results are written to has no room left; its text says which, and what to do."""

    def __init__(self, folder: Path):
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        super().__init__(errno.ENOSPC, f"no space left on the disk of {folder} ({free / 1e6:.1f} MB free): finished "
                         "runs are kept; make room, and the same command goes on")

    def __str__(self) -> str:
        return self.strerror


def is_disk_full(error: BaseException) -> bool:
    """Tell whether ``error`` comes from a disk or quota that is full, whatever library raised it."""
    known = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    return known or "No space left on device" in str(error)


def first_problem(error: ValidationError) -> str:
    """Return place and words of the first thing that pydantic found wrong."""
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"])         # "" where fields do not fit each other
    return ": ".join(filter(None, [place, problem["msg"].removeprefix("Value error, ")]))
