"""The one error that is shown to people as one line, and the did-you-mean that goes with it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the person gave is wrong. The command line prints its text and exits with code 2."""


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """An :class:`InputError` for a name that does not exist, with the nearest one that does."""
    names = sorted(known)
    begun = [known for known in names if name and known.startswith(name)]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5) or begun
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return InputError(f"unknown {kind} {name!r}{hint} (known: {', '.join(names)})")
