"""What a terminal is shown: text in its encoding, and errors as one line with exit code 2."""

from __future__ import annotations

import codecs
import io
import sys
from typing import TextIO

import click

from harness.errors import InputError, printable

REPLACED = "harness.replaced"                      # what a terminal's encoding lacks, in ASCII
ASCII = {"−": "-", "–": "-", "—": "-", "‑": "-", "±": "+-", "×": "x", "·": ".", "…": "...", "→": "->", "↑": "^",
         "↓": "v", "▲": "^", "▼": "v", "≤": "<=", "≥": ">=", "≈": "~", "µ": "u", "μ": "u", "²": "^2", "∞": "inf",
         "\N{NO-BREAK SPACE}": " ", "─": "-", "━": "-", "│": "|", "•": "*"}


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """In place of what cannot be encoded: a number keeps its sign, a name its letters' escapes."""
    letters = error.object[error.start:error.end]
    return "".join(ASCII.get(one) or one.encode("ascii", "backslashreplace").decode() for one in letters), error.end


codecs.register_error(REPLACED, _replaced)


def replace_missing_letters(*streams: TextIO) -> None:
    """Have ``streams`` write what their encoding lacks in ASCII, where they would raise UnicodeEncodeError."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=REPLACED)


class OneLineErrors(click.Group):
    """Prints an InputError as one line and exits with code 2."""

    def invoke(self, context: click.Context):
        replace_missing_letters(sys.stdout, sys.stderr)
        try:
            return super().invoke(context)
        except InputError as error:
            click.echo(f"error: {printable(str(error))}", err=True)
            context.exit(2)
        except KeyboardInterrupt:
            click.echo("interrupted; finished runs are kept, and the same command goes on from them", err=True)
            context.exit(130)
