"""A YAML file as a checked model: what is wrong with it is said in one line, with file, line and nearest name.

Profiles, studies and claims are such files. Loading is ``safe_load``'s: no tags that build objects.
"""

from __future__ import annotations

from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from harness.errors import InputError, one_line, unknown

Model = TypeVar("Model", bound=BaseModel)
Place = tuple[str | int, ...]                      # keys and indices from the top of the file
MOST_NODES = 100_000                               # values of one file, with every alias written out
MOST_LEVELS = 100                                  # of nesting


class ShallowLoader(yaml.SafeLoader):
    """Refuses nesting beyond ``MOST_LEVELS``, for which PyYAML's scanner would take seconds and Python has no stack."""

    level = 0

    def compose_node(self, parent, index):
        self.level += 1
        if self.level > MOST_LEVELS:
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(problem=f"nested deeper than {MOST_LEVELS} levels", problem_mark=mark)
        node = super().compose_node(parent, index)
        self.level -= 1
        return node


class YamlFile:
    """The content of a YAML file and the line of everything in it.

    Raises InputError where it cannot be read, is not YAML, is not a mapping, says a key twice, or is beyond measure:
    aliases of aliases that make more than ``MOST_NODES`` values, or nesting of more than ``MOST_LEVELS``.
    """

    def __init__(self, path: Path):
        self.path, self.lines = path, {}
        try:
            text = path.read_text(encoding="utf-8")
            root = yaml.compose(text, ShallowLoader)
            self._measure(root, {})
            self.content = yaml.safe_load(text)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise InputError(f"{path}:{mark.line + 1}: not YAML: {error.problem or error.context}") from None
        except InputError:
            raise
        except Exception as error:             # not UTF-8, a date that is none; PyYAML has many kinds
            raise InputError(f"{path}: not YAML: {one_line(error)}") from None
        if not isinstance(self.content, dict):
            raise InputError(f"{path}:1: expected a mapping of names to values")
        self._note(root, ())                               # an anchor used twice is told apart by its place

    def _measure(self, node: yaml.Node | None, sizes: dict[int, int]) -> int:
        """How many values ``node`` is with every alias written out; ``sizes`` are those of the nodes seen before."""
        if id(node) not in sizes:
            sizes[id(node)] = 1                            # of one that holds itself: _note refuses it
            pairs = node.value if isinstance(node, yaml.CollectionNode) else ()
            inner = (part for item in pairs for part in (item if isinstance(item, tuple) else (item,)))
            sizes[id(node)] = size = 1 + sum(self._measure(part, sizes) for part in inner)
            if size > MOST_NODES:
                raise InputError(f"{self.path}:{node.start_mark.line + 1}: more than {MOST_NODES:,} values, "
                                 "with its aliases written out")
        return sizes[id(node)]

    def _note(self, node: yaml.Node, place: Place, inside: tuple[yaml.Node, ...] = ()) -> None:
        self.lines[place] = node.start_mark.line + 1
        if any(node is one for one in inside):
            raise self.error(place, "a cycle: an anchor that holds itself")
        inside = (*inside, node)
        if isinstance(node, yaml.SequenceNode):
            for i, item in enumerate(node.value):
                self._note(item, (*place, i), inside)
        elif isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                name = str(key.value)
                if name in seen:                           # YAML would keep the second and say nothing
                    raise self.error((*place, name), f"{name!r} is given twice", line=key.start_mark.line + 1)
                seen.add(name)
                self._note(value, (*place, name), inside)
                self.lines[(*place, name)] = key.start_mark.line + 1

    def line(self, place: Place) -> int:
        """Of the innermost part of ``place`` that the file has."""
        place = tuple(part if isinstance(part, int) else str(part) for part in place)
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def error(self, place: Place, message: str | Exception, *, line: int | None = None) -> InputError:
        """``message`` with file and line, to be raised."""
        return InputError(f"{self.path}:{line or self.line(place)}: {message}")

    def validate(self, model: type[Model], content: Any = None, at: Place = ()) -> Model:
        """``content`` (at ``at``; the whole file by default) as ``model``. Raises InputError with its place."""
        try:
            return model.model_validate(self.content if content is None else content)
        except ValidationError as error:
            # a misspelt entry says more than the required one that it leaves missing
            problem = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
            place = tuple(problem["loc"])
            known = fields_at(model, place[:-1])
            if problem["type"] == "extra_forbidden" and known:
                raise self.error((*at, *place), unknown("entry", str(place[-1]), known)) from None
            name = ".".join(str(part) for part in (*at, *place))
            message = problem["msg"].removeprefix("Value error, ")
            raise self.error((*at, *place), f"{name + ': ' if name else ''}{message}") from None


def fields_at(model: Any, place: Place) -> list[str]:
    """Names of the fields of the model that ``place`` leads to inside ``model``; [] where it leads to none."""
    for part in place:
        model = _inner(model.model_fields[part].annotation if _is_model(model) and part in model.model_fields
                       else _items(model))
    model = _inner(model)
    return list(model.model_fields) if _is_model(model) else []


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _inner(kind: Any) -> Any:
    """Of a union, its model or container."""
    if get_origin(kind) in (Union, UnionType):
        return next((one for one in get_args(kind) if _is_model(one) or get_origin(one)), kind)
    return kind


def _items(kind: Any) -> Any:
    """What a dict, list or tuple type holds."""
    arguments = get_args(kind)
    if not arguments:
        return None
    return arguments[1] if get_origin(kind) is dict else arguments[0]
