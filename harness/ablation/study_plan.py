"""A study + a profile -> its manifest: every arm as a spec, checked by building it, its size matched.

Options are checked by building each arm on the meta device, so that a wrong one is a line of the study's file
and not a failed run an hour later. Nothing is trained here.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness import suites
from harness.ablation import matching
from harness.ablation.manifest import Part, PlannedArm
from harness.ablation.study import ArmDesign, Change, Matching, Study, SuitePart
from harness.dataset import Dataset
from harness.errors import InputError, first_problem, one_line, unknown
from harness.identity import building, networks
from harness.plan import (
    Request,
    SuiteProfile,
    base_spec,
    check_names,
    data_spec,
    load_data,
    missing_budget,
    read_profile,
    same_seed,
)
from harness.spec import RunSpec, TrainSpec
from harness.yaml_file import Place, YamlFile


@dataclass(frozen=True)
class PartPlan:
    """One suite of a study, ready to run. The specs say where the data lies; make them portable to write them."""

    suite: str
    data: Dataset
    parts: tuple[Part, ...]                        # one for each matching


def plan_suite(study: Study, file: YamlFile, designs: tuple[ArmDesign, ...], request: Request, cache: Path,
               matchings: tuple[Matching, ...]) -> PartPlan:
    """The parts of ``request.suite``. Imports torch.

    Raises InputError with file and line for an option, setting or budget that does not exist or does not fit,
    for two arms that are the same network with the same budget, and for a size that cannot be matched.
    """
    check_names(request)
    suite_part = study.suites[request.suite]
    profile = changed_profile(read_profile(request.profile, request.suite), suite_part, request, file)
    spec_of_data = data_spec(request, profile)
    data = load_data(spec_of_data, request.suite, cache)
    base = base_spec(request, profile, data, cache)
    maker = ArmMaker(file, suites.registry.load(request.suite), data, base)
    arms = tuple(maker.arm(design) for design in designs)
    parts = []
    for quantity in matchings:
        matched = arms if quantity == "none" else tuple(maker.matched(arms, designs, quantity))
        parts.append(Part(suite=request.suite, matching=quantity, outcome=suite_part.outcome, also=suite_part.also,
                          curve=suite_part.curve, axes={axis: tuple(levels) for axis, levels in study.axes.items()},
                          arms=matched))
    return PartPlan(request.suite, data, tuple(parts))


def changed_profile(profile: SuiteProfile, part: SuitePart, request: Request, file: YamlFile) -> SuiteProfile:
    """The profile with what the study sets for every arm of a suite."""
    own = part.profiles.get(request.profile, {})
    for changes, place in ((part.set, ("set",)), (own, ("profiles", request.profile))):
        content = profile.model_dump()
        for key, value in changes.items():
            section, _, name = key.partition(".")
            at: Place = ("suites", request.suite, *place, key)
            if section == "variant":
                raise file.error(at, "the variant belongs to the arms, or to common")
            if section == "data" and (request.dataset or request.data):
                continue                           # they are arguments of the study's own data set
            content[{"data": "data_options"}.get(section, section)][name] = value
        try:
            profile = SuiteProfile.model_validate(content)
        except ValidationError as error:
            raise file.error(("suites", request.suite, *place), first_problem(error)) from None
    return profile


class ArmMaker:
    """Designs -> planned arms of one suite."""

    def __init__(self, file: YamlFile, suite, data: Dataset, base: RunSpec):
        self.file, self.suite, self.data, self.base = file, suite, data, base
        self.made: dict[str, str] = {}             # arm key -> its name

    def arm(self, design: ArmDesign) -> PlannedArm:
        spec = self.apply(design.change, design.place)
        self.count(spec, design)
        arm = PlannedArm(name=design.name, difference=design.difference, levels=design.levels, spec=spec)
        twin = self.made.setdefault(arm.key, arm.name)
        if twin != arm.name:
            raise self.file.error(design.place, f"arms {twin!r} and {arm.name!r} are the same run in the suite "
                                                f"{self.base.suite}")
        return arm

    def apply(self, change: Change, place: Place) -> RunSpec:
        """The base spec with ``change``. Raises InputError where a setting or budget does not fit."""
        content = {name: dict(getattr(self.base, name)) for name in ("options", "settings")}
        train, variant = self.base.train.model_dump(), self.base.variant
        for key, value in change.items():
            section, _, name = key.partition(".")
            if section == "variant":
                variant = value
            elif section == "train":
                train[name] = value
            elif section == "settings" and name not in self.suite.Settings.model_fields:
                raise self.file.error((*place, key), unknown("setting", name, self.suite.Settings.model_fields))
            else:
                content[section][name] = value
        try:
            settings = self.suite.Settings(**content["settings"]).model_dump(mode="json")
            budget = TrainSpec(**train)
        except ValidationError as error:
            raise self.file.error((*place, self._key(change, error)), first_problem(error)) from None
        field = missing_budget(self.base.suite, budget)
        if field:
            raise self.file.error((*place, f"train.{field}"), f"train.{field} must be above 0")
        return self.base.model_copy(update={"variant": variant, "options": content["options"],
                                            "settings": settings, "train": budget})

    @staticmethod
    def _key(change: Change, error: ValidationError) -> str:
        """The entry of the change that an error is about, to find its line."""
        last = str(error.errors()[0]["loc"][-1])
        return next((key for key in change if key.endswith(f".{last}")), last)

    def network(self, spec: RunSpec, quantity: Matching = "none") -> tuple[Callable, dict[str, Any], tuple]:
        """What builds the arm's network, with which arguments, and inputs on the meta device (latency: real ones)."""
        settings = self.suite.Settings(**spec.settings)
        arguments = {**self.suite.network_arguments(self.data, settings), **spec.options}
        place = (spec.train.batch_size, spec.device) if quantity == "latency" else (1, "meta")
        inputs = self.suite.example_inputs(self.data, settings, *place)
        return partial(building.build, spec.variant, inputs), arguments, inputs

    def count(self, spec: RunSpec, design: ArmDesign) -> None:
        """Build the arm and call it once, without memory or arithmetic. Raises InputError where it cannot be."""
        from harness.run import count
        build, arguments, inputs = self.network(spec)
        try:
            with networks.contained():
                count(partial(build, **arguments), arguments["out_channels"], inputs)
        except TypeError as error:
            option = re.search(r"(\S+)\(\) got an unexpected keyword argument '(\w+)'", str(error))
            if option is None:
                raise self._refused(design, spec, error) from None
            known = arguments_of(networks.factory(spec.variant), option[1]) - set(CONTRACT)
            raise self.file.error((*design.place, f"options.{option[2]}"),
                                  unknown(f"option of {spec.variant}:", option[2], known)) from None
        except Exception as error:                 # other people's code
            raise self._refused(design, spec, error) from None

    def _refused(self, design: ArmDesign, spec: RunSpec, error: Exception) -> InputError:
        words = one_line(error)
        keys = [key for key in design.change if key.startswith("options.")]
        about = next((key for key in keys if key.partition(".")[2] in words), keys[0] if keys else "")
        return self.file.error((*design.place, about), f"{spec.variant} cannot be built so: {words}")

    def matched(self, arms: tuple[PlannedArm, ...], designs: tuple[ArmDesign, ...], quantity: Matching):
        """The arms at the base's size. Raises InputError where one cannot have it."""
        base = self.network(arms[0].spec, quantity)
        target = matching.measured(*base, quantity)
        yield arms[0]
        for arm, design in zip(arms[1:], designs[1:], strict=True):
            found = matching.match_width(*self.network(arm.spec, quantity), quantity, target)
            if not found.within:
                raise self.file.error(design.place, f"match: {quantity}: arm {arm.name!r} cannot meet "
                                                    f"{target:,.6g} of {arms[0].name!r}: {found.reason}")
            spec = arm.spec.model_copy(update={"options": {**arm.spec.options, **found.options}})
            yield arm.model_copy(update={"spec": spec, "match": found})


CONTRACT = ("self", "in_channels", "out_channels", "image_size", "time", "context_dim", "options", "arguments")


def arguments_of(factory: Callable, qualified: str) -> set[str]:
    """Names that the called function takes: that of ``factory``, and of what refused the argument below it."""
    known = set(inspect.signature(factory).parameters)
    for name, module in list(sys.modules.items()):
        if name.startswith("variants"):
            target: Any = module
            for part in qualified.split("."):
                target = getattr(target, part, None)
            if callable(target):
                known |= set(inspect.signature(target).parameters)
    return known


def portable(part: Part) -> Part:
    """Without paths of this machine, as it is kept."""
    return part.model_copy(update={"arms": tuple(arm.model_copy(update={"spec": arm.spec.portable()})
                                                 for arm in part.arms)})


def runs_of(parts: tuple[Part, ...], seed: int) -> dict[str, tuple[str, RunSpec]]:
    """Every different run of one seed: arm key -> (arm's name, spec). Arms that two matchings share run once."""
    found: Mapping[str, tuple[str, RunSpec]] = {}
    for part in parts:
        for arm in part.arms:
            spec = arm.spec.model_copy(update={"seeds": same_seed(seed)})
            found.setdefault(arm.key, (arm.name, spec))
    return found
