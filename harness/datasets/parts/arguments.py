"""Checks of what people type or write by hand, with one clear line where it is wrong."""

from __future__ import annotations

from pathlib import Path

from harness.errors import InputError


def require_at_least(minimum: int, **values: int) -> None:
    """Raise InputError naming the first of ``values`` that is not a whole number >= ``minimum``."""
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise InputError(f"{name} must be a whole number of at least {minimum}, not {value!r}")


def read_lines(path: Path) -> list[str]:
    """The lines of a small text file. Raises InputError where it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text") from None
