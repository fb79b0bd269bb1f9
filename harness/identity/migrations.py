"""Records of an older schema -> today's, step by step, as JSON. No torch import.

The schema is raised where records that exist no longer read as they are: a field that moved, or means
something else, or whose default is another now. A new field with a default needs no migration, only its line in
``spec_defaults.json``, nor does one that only new records have. For every schema that was ever written there is a
step in :data:`MIGRATIONS`, so old results are never dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

SCHEMA = 2                                         # of the records that this version writes

# What the pictures were that the two suites of before roles drew, by their names.
ROLES = {"images.png": "input", "truth.png": "truth", "prediction.png": "output", "samples.png": "output",
         "real.png": "reference"}


def renamed(fields: Any, names: Mapping[str, str]) -> Any:
    """Return a JSON object with ``names`` (old -> new) for its fields; what is no object as it is."""
    return {names.get(name, name): value for name, value in fields.items()} if isinstance(fields, Mapping) else fields


def current_spec(fields: Any) -> Any:
    """Return a spec's JSON of schema 1 with the field names of schema 2."""
    return renamed(fields, {"judged": "evaluate_on_test"})


def _names_and_roles(content: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 -> 2: the field's terms for what a spec and a metric hold, and a role for each picture."""
    if "spec" in content:
        content["spec"] = current_spec(content["spec"])
    for kind in ("metrics", "cost"):
        if isinstance(content.get(kind), Mapping):
            content[kind] = {key: renamed(metric, {"floor": "real_data_reference"})
                             for key, metric in content[kind].items()}
    return _with_roles(content)


# schema -> what makes a record (as JSON) of the next one out of one of this; it may change its argument.
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _names_and_roles}


class SchemaError(ValueError):
    """What is the matter with a record's schema; follows "record FILE"."""


def migrated(content: Any, schema: int = SCHEMA) -> dict[str, Any]:
    """A record's JSON of any known schema, brought to ``schema``; ``content`` itself is left as it is.

    Raises
    ------
    SchemaError
        Saying what to do, where the record is of a newer schema, of none, or of one that no step leads from.
    """
    if not isinstance(content, Mapping):
        raise SchemaError(f"is corrupt: a record is an object, not a {type(content).__name__}")
    found = content.get("schema")
    if isinstance(found, bool) or not isinstance(found, int):
        stated = f"{found!r} is not a whole number" if "schema" in content else "Field required"
        raise SchemaError(f"is corrupt: schema: {stated}; no version writes such a record, so run it again")
    if found > schema:
        raise SchemaError(f"has schema {found}; this version reads {schema}: a newer version wrote it, so read it "
                          "with that one")
    content = dict(content)
    for step in range(found, schema):
        if step not in MIGRATIONS:
            raise SchemaError(f"has schema {found}; this version reads {schema} and has no step from {step} to "
                              f"{step + 1}: read it with the version that wrote it{_commit(content)}, or run it again")
        try:
            content = {**MIGRATIONS[step](content), "schema": step + 1}
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise SchemaError(f"could not be brought from schema {step} to {step + 1}: "
                              f"{type(error).__name__}: {error}") from error
    return content


def _with_roles(content: dict[str, Any]) -> dict[str, Any]:
    """The record with a role for each of its pictures, where it was written before pictures had one."""
    pictures, data = content.get("pictures"), content.get("data")
    if not isinstance(pictures, Mapping) or not any(isinstance(one, Mapping) and "role" not in one
                                                    for one in pictures.values()):
        return content
    # Records of before data had fields are of sets with labels, or without classes.
    known = isinstance(data, Mapping) and "labels" in data.get("fields", ["labels"])
    classes = [str(name) for name in data.get("classes") or ()] if known else []
    filled = {}
    for name, picture in pictures.items():
        if isinstance(picture, Mapping) and "role" not in picture:
            role = ROLES.get(name, "")
            stacked = role in ("output", "reference") and name != "prediction.png"
            picture = {**picture, "role": role, "heads": classes if stacked and len(classes) == picture.get("columns")
                       else []}
        filled[name] = picture
    return {**content, "pictures": filled}


def _commit(content: Mapping[str, Any]) -> str:
    env = content.get("env")
    return f" (commit {env['git']})" if isinstance(env, dict) and env.get("git") else ""
