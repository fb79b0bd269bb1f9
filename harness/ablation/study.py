"""An ablation study as data: one YAML file in ``studies/`` -> its arms, each a few changes to one base.

A *change* maps a dotted name to a value: ``variant``, ``options.NAME`` (an argument of the network's build),
``train.NAME`` (of the budget) or ``settings.NAME`` (of the suite). A study names its ``arms`` one by one, or
its ``axes`` with their levels and a ``design`` that combines them. No torch import: names are checked here,
what a network makes of its options in :mod:`harness.ablation.study_plan`.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from harness import suites
from harness.errors import InputError, unknown
from harness.identity import networks
from harness.spec import Frozen, TrainSpec
from harness.yaml_file import Place, YamlFile

STUDIES = Path(__file__).parent.parent / "studies"
CLAIMS = Path(__file__).parent.parent / "claims"
SECTIONS = {"options", "train", "settings", "data"}
PLAIN = {"variant": "plain"}                       # what an arm is that does not say
MATCHES = ("none", "params", "macs", "latency")

Change = dict[str, Any]
Matching = Literal["none", "params", "macs", "latency"]


class SuitePart(Frozen):
    """What a study asks of one suite."""

    outcome: str                                   # key of the primary metric, e.g. "dice_macro"
    also: tuple[str, ...] = ()                     # metrics that are reported beside it, each with its own interval
    curve: str = ""                                # of validation, for time to quality; "" = none
    set: Change = Field(default_factory=dict)      # changes to the profile, the same for every arm; also data.NAME
    profiles: dict[str, Change] = Field(default_factory=dict)  # more such changes under a profile, e.g. quick


class Study(Frozen):
    """One study as its file has it."""

    title: str
    question: str
    suites: dict[str, SuitePart] = Field(min_length=1)
    base: str = ""                                 # with arms: the one that all others are compared with
    arms: dict[str, Change] = Field(default_factory=dict)   # name -> change to the base, or to the arm in `from`
    axes: dict[str, dict[str, Change]] = Field(default_factory=dict)  # name -> level -> change; base's level first
    design: Literal["one_at_a_time", "full", "fraction"] = "one_at_a_time"
    generators: dict[str, str] = Field(default_factory=dict)  # with fraction: "c": "a * b" (two levels each)
    common: Change = Field(default_factory=dict)   # changes to every arm, the base included
    seeds: int | tuple[int, ...] = 8               # how many (0, 1, ...), or which
    match: tuple[Matching, ...] = ("none",)        # one, or a list: every arm is run under each; the first is primary
    tune: int = Field(0, ge=0)                     # learning-rate trials per arm, on validation data
    claims: tuple[str, ...] = ()                   # that this study bears on (names in claims/)

    @field_validator("match", mode="before")
    @classmethod
    def _one_matching(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @property
    def seed_list(self) -> tuple[int, ...]:
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds


@dataclass(frozen=True)
class ArmDesign:
    """One arm before it meets a suite."""

    name: str
    change: Change                                 # against the profile; `common` included
    difference: Change                             # against the base arm, for people
    levels: dict[str, str] = field(default_factory=dict)     # axis -> level
    place: Place = ()                              # in the file


def study_names() -> list[str]:
    return sorted(path.stem for path in STUDIES.glob("*.yaml"))


def read_study(name: str) -> tuple[Study, YamlFile, tuple[ArmDesign, ...]]:
    """A shipped study by name, or anyone's by path: as data, its file, and its arms with the base first.

    Raises InputError, with file, line and nearest valid name, for everything that can be seen without torch:
    YAML that is not YAML, unknown entries, suites, metrics, curves, claims, variants and budget names, a seed
    given twice, no seeds, arms that come from each other in a cycle, an axis of one level.
    """
    path = STUDIES / f"{name}.yaml"
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
    elif not path.exists():
        raise unknown("study", name, study_names())
    file = YamlFile(path)
    study = file.validate(Study)
    _check_seeds(study, file)
    _check_suites(study, file)
    shipped = sorted(path.stem for path in CLAIMS.glob("*.yaml"))
    for i, claim in enumerate(study.claims):
        if claim not in shipped:
            raise file.error(("claims", i), unknown("claim", claim, shipped))
    for place, change in _changes(study):
        _check_change(study, file, place, change)
    arms = _arms(study, file) if study.arms else _design(study, file)
    return study, file, arms


def _check_seeds(study: Study, file: YamlFile) -> None:
    seeds = study.seed_list
    if not seeds:
        raise file.error(("seeds",), "a study needs at least one seed")
    twice = next((seed for i, seed in enumerate(seeds) if seed in seeds[:i]), None)
    if twice is not None:
        raise file.error(("seeds", seeds.index(twice)), f"seed {twice} is given twice: it would count as two")
    if min(seeds) < 0:
        raise file.error(("seeds",), f"a seed is 0 or more, not {min(seeds)}")


def _check_suites(study: Study, file: YamlFile) -> None:
    for name, part in study.suites.items():
        at = ("suites", name)
        if name not in suites.registry.names():
            raise file.error(at, unknown("suite", name, suites.registry.names()))
        metrics, curves = (suites.registry.constant(name, constant) or () for constant in ("METRICS", "CURVES"))
        for key, place in ((part.outcome, "outcome"), *((key, "also") for key in part.also)):
            if key not in metrics:
                raise file.error((*at, place), unknown("metric", key, metrics))
        if part.curve and part.curve not in curves:
            raise file.error((*at, "curve"), unknown("curve", part.curve, curves))


def _changes(study: Study):
    """Every change of the study with its place."""
    yield ("common",), study.common
    for name, change in study.arms.items():
        yield ("arms", name), change
    for axis, levels in study.axes.items():
        for level, change in levels.items():
            yield ("axes", axis, level), change
    for name, part in study.suites.items():
        yield ("suites", name, "set"), part.set
        for profile, change in part.profiles.items():
            yield ("suites", name, "profiles", profile), change


def _check_change(study: Study, file: YamlFile, place: Place, change: Change) -> None:
    in_suite = place[0] == "suites"
    for key, value in change.items():
        section, dot, name = key.partition(".")
        at = (*place, key)
        if key == "from" and place[0] == "arms":
            continue
        if key == "variant":
            try:
                networks.check(str(value))
            except InputError as error:
                raise file.error(at, error) from None
        elif not dot or section not in SECTIONS:
            raise file.error(at, _unknown_change(key, in_suite))
        elif section == "train" and name not in TrainSpec.model_fields:
            raise file.error(at, unknown("budget entry", name, TrainSpec.model_fields))
        elif section == "data" and not in_suite:
            raise file.error(at, f"{key}: arms share their data; change it for all of them under suites: set")


def _unknown_change(key: str, in_suite: bool) -> InputError:
    """Named with the right section where it has a wrong one; a bare name is most likely an option."""
    known = ["variant", *(f"{section}.NAME" for section in sorted(SECTIONS) if in_suite or section != "data")]
    section, dot, name = key.partition(".")
    near = difflib.get_close_matches(section, SECTIONS, n=1) if dot else ["options"]
    hint = f"; did you mean '{near[0]}.{name or section}'?" if near else ""
    return InputError(f"unknown change {key!r}{hint} (known: {', '.join(known)})")


def _arms(study: Study, file: YamlFile) -> tuple[ArmDesign, ...]:
    """The arms that the file names, each with what it inherits by ``from``; the base first."""
    if study.axes:
        raise file.error(("axes",), "a study has either arms or axes")
    if study.base not in study.arms:
        raise file.error(("base",), unknown("base: there is no arm", study.base, study.arms))

    def whole(name: str, heirs: tuple[str, ...]) -> Change:
        own = dict(study.arms[name])
        parent = own.pop("from", None)
        if name in heirs:
            raise file.error(("arms", name), f"a cycle: {' from '.join([*heirs[heirs.index(name):], name])}")
        if parent is None:
            return own
        if parent not in study.arms:
            raise file.error(("arms", name, "from"), unknown("arm", str(parent), study.arms))
        return {**whole(parent, (*heirs, name)), **own}

    changes = {name: {**PLAIN, **study.common, **whole(name, ())} for name in study.arms}
    base = changes[study.base]
    names = [study.base, *(name for name in study.arms if name != study.base)]
    arms = tuple(ArmDesign(name, changes[name], difference(changes[name], base), place=("arms", name))
                 for name in names)
    return _distinct(arms, file)


def _design(study: Study, file: YamlFile) -> tuple[ArmDesign, ...]:
    """The combinations of levels that the design runs; the first, of every axis' first level, is the base."""
    if not study.axes:
        raise file.error((), "a study needs arms or axes")
    for axis, levels in study.axes.items():
        if len(levels) < 2:
            raise file.error(("axes", axis), f"axis {axis!r} needs at least two levels")
    base = {axis: next(iter(levels)) for axis, levels in study.axes.items()}
    if study.design == "one_at_a_time":
        cells = [base, *({**base, axis: level} for axis, levels in study.axes.items() for level in levels
                         if level != base[axis])]
    else:
        free = {axis: list(levels) for axis, levels in study.axes.items() if axis not in study.generators}
        cells = [dict(zip(free, levels, strict=True)) for levels in itertools.product(*free.values())]
    if study.design == "fraction":
        cells = [_generated(study, file, cell) for cell in cells]
    elif study.generators:
        raise file.error(("generators",), "generators belong to design: fraction")

    def change(cell: Mapping[str, str]) -> Change:
        merged = {**PLAIN, **study.common}
        for axis in study.axes:                    # in the file's order, so a later axis may build on an earlier
            merged.update(study.axes[axis][cell[axis]])
        return merged

    shared = change(cells[0])
    arms = tuple(ArmDesign(", ".join(f"{axis} {cell[axis]}" for axis in study.axes), change(cell),
                           difference(change(cell), shared), {axis: cell[axis] for axis in study.axes}, ("axes",))
                 for cell in cells)
    return _distinct(arms, file)


def _generated(study: Study, file: YamlFile, cell: dict[str, str]) -> dict[str, str]:
    """A cell completed by the generators: ``c: a * b`` gives c its second level where a xor b has."""
    if not study.generators:
        raise file.error(("design",), "a fraction needs generators, such as {c: a * b}")
    cell = dict(cell)
    for axis, product in study.generators.items():
        parents = [name.strip() for name in product.split("*")]
        for name in (axis, *parents):
            if name not in study.axes:
                raise file.error(("generators", axis), unknown("axis", name, study.axes))
            if len(study.axes[name]) != 2:
                raise file.error(("generators", axis), f"a fraction takes two levels per axis, and {name!r} has "
                                                       f"{len(study.axes[name])}")
        if any(name not in cell for name in parents):
            raise file.error(("generators", axis), f"a cycle: {axis!r} is made from {product!r}, which is generated")
        second = sum(cell[name] != next(iter(study.axes[name])) for name in parents)
        # an even number of parents at their first level keeps the base (all first) in the fraction
        cell[axis] = list(study.axes[axis])[second % 2]
    return cell


def _distinct(arms: tuple[ArmDesign, ...], file: YamlFile) -> tuple[ArmDesign, ...]:
    for arm, other in itertools.combinations(arms, 2):
        if arm.change == other.change:
            raise file.error(other.place, f"arms {arm.name!r} and {other.name!r} are the same")
    if len(arms) < 2:
        raise file.error(("arms",), "a study needs a base and at least one arm to compare with it")
    return arms


def difference(change: Change, base: Change) -> Change:
    """The entries of ``change`` that ``base`` has not, or has otherwise; None for what only ``base`` has."""
    mine = {key: value for key, value in change.items() if key not in base or base[key] != value}
    return {**mine, **{key: None for key in base if key not in change}}
