"""What a record's JSON must be, beyond its schema, for reports to rest on it. No torch import."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic takes typing's from Python 3.12 on

SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")        # an escape in JSON: half of a character, or the first of a pair


class DataFacts(TypedDict, total=False):
    """What of ``Record.data`` is read by its form."""

    name: str
    classes: list[str]
    splits: dict[str, int]
    fingerprint: str
    passed_over: dict[str, int]
    duplicates: dict[str, dict[str, int]]
    crop: list[int]
    padded_images: int
    few_samples: dict[str, int]
    left_out_of_means: str
    evaluated: dict[str, object]


class EnvironmentFacts(TypedDict, total=False):
    """What of ``Record.env`` is read by its form."""

    memory_bytes: int | None
    packages: dict[str, str]


class ProtocolFacts(TypedDict, total=False):
    """What of ``Metric.protocol`` is read by its form."""

    classes: list[str | int]
    batch_size: float | None


FACTS = {"data": TypeAdapter(DataFacts), "env": TypeAdapter(EnvironmentFacts), "protocol": TypeAdapter(ProtocolFacts)}


def formed(facts: dict[str, Any], kind: str) -> dict[str, Any]:
    """``facts`` as they are. Raises ValueError where those that are read by their form have another."""
    try:
        FACTS[kind].validate_python(facts)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return facts


def parsed(text: bytes) -> Any:
    """JSON as Python's values, lone surrogates as escapes. Raises ValueError where it is none, or holds NaN."""
    content = json.loads(text, parse_constant=_no_number)
    return escaped(content) if SURROGATE.search(text) else content


def escaped(value: Any) -> Any:
    """A value of JSON whose strings hold no lone surrogates, which neither a file nor a terminal takes."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {escaped(key): escaped(part) for key, part in value.items()}
    return [escaped(part) for part in value] if isinstance(value, (list, tuple)) else value


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON; undefined is null")
