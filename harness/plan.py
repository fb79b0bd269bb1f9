"""A command line -> the list of runs it means. Budgets come from profiles, not from flags."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError

from harness import datasets, suites
from harness.errors import InputError, first_problem, unknown
from harness.identity import networks
from harness.spec import DataSpec, Frozen, RunSpec, Seeds, TrainSpec, portable_variant
from harness.yaml_file import YamlFile

if TYPE_CHECKING:                                  # listing profiles must not wait for numpy
    from harness.dataset import Dataset

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
CORE = ("plain", "no_skip", "residual", "attention_gate", "cross_attention", "dit", "fcn")
PROFILES = Path(__file__).parent / "profiles"


class SuiteProfile(Frozen):
    """One suite's part of a profile: data, size, budget."""

    dataset: str = ""                              # the suite's, where the command line names none; "" = it must
    variants: tuple[str, ...] = CORE               # networks that are compared where --variants does not say
    data_options: dict[str, Any] = Field(default_factory=dict)  # arguments of the default data set's load()
    options: dict[str, Any] = Field(default_factory=dict)       # arguments of every variant's build()
    variant_options: dict[str, dict[str, Any]] = Field(default_factory=dict)  # more of them, by variant
    seeds: int = Field(1, gt=0)                    # runs per variant where --seeds does not say
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    train: TrainSpec = TrainSpec()
    settings: dict[str, Any] = Field(default_factory=dict)      # the suite's Settings
    # values of "settings.NAME" and "train.NAME" that are all tried with each other: one comparison each, a cell
    sweep: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What the person asked for, as the command line has it; None = the profile or the machine decides."""

    suite: str
    variants: tuple[str, ...] = ()                 # () = the profile's; ("all",) = every registered one
    dataset: str | None = None
    data: Path | None = None                       # a folder of one's own
    data_root: Path | None = None
    download: bool = False
    seeds: int | None = None
    profile: str = "quick"
    device: str = "auto"
    precision: str | None = None                   # "auto" is the device's own, whatever the profile says
    inception_weights: Path | None = None


def profile_names() -> list[str]:
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def profile_file(name: str, suite: str) -> YamlFile:
    """A shipped profile, or a YAML file by path. Raises InputError where it has no part for ``suite``."""
    path = PROFILES / f"{name}.yaml"
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
    elif name not in profile_names():
        raise unknown("profile", name, profile_names())
    file = YamlFile(path)
    if suite not in file.content:
        raise InputError(f"profile {path} has no part for the suite {suite!r}")
    return file


def read_profile(name: str, suite: str) -> SuiteProfile:
    """The part of a profile for ``suite``.

    Raises InputError for an unknown name, unreadable YAML, or a field that does not fit, with its place.
    """
    file = profile_file(name, suite)
    profile = file.validate(SuiteProfile, file.content[suite], at=(suite,))
    field = missing_budget(suite, profile.train)
    if field:
        raise file.error((suite, "train", field), f"{suite}.train.{field} must be above 0")
    return profile


def missing_budget(suite: str, train: TrainSpec) -> str | None:
    """Name what a suite that trains must have above 0 and ``train`` has not; a suite of no data trains nothing."""
    fields = ("steps", "learning_rate") if needs(suite) else ()
    return next((field for field in fields if not getattr(train, field)), None)


def check_names(request: Request) -> None:
    """Raise InputError for unknown names, without importing torch."""
    if request.suite not in suites.registry.names():
        raise unknown("suite", request.suite, suites.registry.names())
    profile = read_profile(request.profile, request.suite)
    for variant in (*request.variants, *profile.variants, *profile.variant_options):
        if variant != "all":
            networks.check(networks.split_inline(variant)[0])
    if request.dataset is not None and request.data is not None:
        raise InputError("--dataset names a registered set and --data a folder of your own: give one of them")
    if request.data is None:
        check_dataset(dataset_name(request, profile), request.suite)
    if request.seeds is not None and request.seeds < 1:
        raise InputError(f"--seeds must be at least 1, not {request.seeds}")
    if request.device not in DEVICES:
        raise unknown("device", request.device, DEVICES)
    if request.precision is not None and request.precision not in PRECISIONS:
        raise unknown("precision", request.precision, PRECISIONS)
    if request.inception_weights is not None and not request.inception_weights.is_file():
        raise InputError(f"--inception-weights: there is no file {request.inception_weights}")
    for option in given(request):
        fitting = [name for name in suites.registry.names() if option in accepted(name)]
        if request.suite not in fitting:
            raise InputError(f"--{option.replace('_', '-')} is for the {' and the '.join(fitting)} suite, "
                             f"not for {request.suite}")


def check_importable(request: Request) -> None:
    """Raise InputError for a network from elsewhere that cannot be imported; imports it, and so torch."""
    files: dict[str, Path] = {}
    for variant in request.variants:
        name = networks.split_inline(variant)[0]
        if ":" not in name:
            continue
        networks.factory(name)
        file = networks.source_file(name)
        if file is not None and files.setdefault(portable_variant(name), file.resolve()) != file.resolve():
            raise InputError(f"{files[portable_variant(name)]} and {file} would both be called "
                             f"{portable_variant(name)!r}; rename one of the files")


def given(request: Request) -> dict[str, Any]:
    """Options of ``request`` that are not for every suite, as far as they were given."""
    options = {"inception_weights": request.inception_weights}
    return {name: value for name, value in options.items() if value is not None}


def accepted(suite: str) -> tuple[str, ...]:
    return suites.registry.constant(suite, "ACCEPTS") or ()


def check_dataset(name: str, suite: str) -> None:
    if name not in datasets.registry.names():
        raise unknown("data set", name, datasets.registry.names())
    needed = needs(suite)
    held = {other: datasets.registry.constant(other, "FIELDS") for other in datasets.registry.names()}
    missing = [field for field in needed if field not in held[name]]
    if missing:
        fitting = [other for other, fields in held.items() if set(needed) <= set(fields)]
        raise InputError(f"the data set {name!r} has no {missing[0]}, which {suite} needs; "
                         f"these have: {', '.join(fitting)}")


def needs(suite: str) -> tuple[str, ...]:
    """The fields that a data set must hold for ``suite``."""
    return suites.registry.constant(suite, "NEEDS")


def load_data(spec: DataSpec, suite: str, cache: Path | None = None,
              progress: Callable[..., None] = lambda **event: None) -> Dataset:
    """The data set of ``spec`` for ``suite``: from the store in ``cache``, or in memory where that is None.

    Raises InputError as :func:`harness.datasets.parts.store.prepare` does.
    """
    from harness.datasets.parts import store
    if cache is not None:
        return store.prepare(spec, needs(suite), cache, progress)
    module = datasets.registry.load(spec.name)
    store.require_fits(module, spec, needs(suite))
    return module.load(needs(suite), root=spec.root, download=spec.download, **spec.options)


def dataset_name(request: Request, profile: SuiteProfile) -> str:
    """Name the registered data set. Raises InputError where neither the command line nor the profile does."""
    name = request.dataset or profile.dataset
    if not name:
        raise InputError(f"the profile {request.profile!r} names no data set for {request.suite}: give --dataset or "
                         "--data, or add a line dataset: NAME to it")
    return name


def data_spec(request: Request, profile: SuiteProfile) -> DataSpec:
    if request.data is not None:
        return DataSpec(name="folder", root=str(request.data))
    name = dataset_name(request, profile)
    root = None if request.data_root is None else str(request.data_root)
    # The profile's options are those of its own data set, and mean nothing to another.
    return DataSpec(name=name, root=root, download=request.download,
                    options=profile.data_options if name == profile.dataset else {})


def make_plan(request: Request, data: Dataset, cache: Path) -> list[RunSpec]:
    """All runs of a request, cell by cell and seed by seed, so that a comparison is whole as early as it can be.

    Arms share data order and sampling noise for a seed. Imports torch (devices, the suite's settings).
    """
    profile = read_profile(request.profile, request.suite)
    bases = cells(request, profile, base_spec(request, profile, data, cache))
    asked = request.variants or profile.variants
    names = dict.fromkeys(name for one in asked for name in (networks.all_names() if one == "all" else [one]))
    found = [networks.split_inline(name) for name in names]
    return [base.model_copy(update={"variant": name, "seeds": same_seed(seed), "options": {
                **base.options, **profile.variant_options.get(name, {}), **options}})
            for base in bases for seed in range(request.seeds or profile.seeds) for name, options in found]


def swept(request: Request, profile: SuiteProfile) -> dict[str, list[Any]]:
    """The profile's sweep; a precision that was asked for takes the place of those it has."""
    return {name: values for name, values in profile.sweep.items()
            if request.precision is None or name != "train.precision"}


def cells(request: Request, profile: SuiteProfile, base: RunSpec) -> list[RunSpec]:
    """``base`` with every combination of the sweep's values; its first name changes slowest.

    Raises InputError, with file and line, for a name or value that does not fit, and for a precision that the
    device lacks. Imports torch.
    """
    from harness.training.device import check_precision
    suite, sweep = suites.registry.load(request.suite), swept(request, profile)
    parts = {"settings": suite.Settings, "train": TrainSpec}
    known = [f"{part}.{field}" for part, model in parts.items() for field in model.model_fields]
    for name, values in sweep.items():
        if name not in known:
            raise in_sweep(request, unknown("entry", name, known), name)
        twice = next((value for i, value in enumerate(values) if value in values[:i]), None)
        if twice is not None:
            raise in_sweep(request, f"{twice!r} is given twice", name)
    found = []
    for values in product(*sweep.values()):
        changed = {part: getattr(base, part) if part == "settings" else base.train.model_dump() for part in parts}
        for name, value in zip(sweep, values, strict=True):
            part, field = name.split(".")
            changed[part] = {**changed[part], field: value}
        try:
            settings, train = (model.model_validate(changed[part]) for part, model in parts.items())
        except ValidationError as error:
            place = ".".join(str(part) for part in error.errors()[0]["loc"])
            at = next((name for name in sweep if name.partition(".")[2] == place), None)
            raise in_sweep(request, first_problem(error), at) from None
        check_precision(base.device, train.precision)
        found.append(base.model_copy(update={"settings": settings.model_dump(mode="json"), "train": train}))
    return found


def in_sweep(request: Request, message: str | InputError, name: str | None) -> InputError:
    """``message`` with file and line of the sweep, or of its entry ``name``."""
    place = (request.suite, "sweep", *filter(None, [name]))
    return profile_file(request.profile, request.suite).error(place, message)


def cell_name(spec: RunSpec, sweep: dict[str, list[Any]]) -> str:
    """What tells a run's cell from the others: "image_size 32, batch_size 16"; "" without a sweep."""
    entries = spec.model_dump(mode="json", include={"settings", "train"})
    parts = {name: entries[part][field] for name in sweep for part, field in [name.split(".")]}
    return ", ".join(f"{name.partition('.')[2]} {value}" for name, value in parts.items())


def base_spec(request: Request, profile: SuiteProfile, data: Dataset, cache: Path) -> RunSpec:
    """``plain`` under ``profile``: what every run of a request starts from. Imports torch.

    Raises InputError for a device or precision that is not to be had, and for settings that do not fit.
    """
    device, precision = device_and_precision(request, profile)
    suite, settings = suites.registry.load(request.suite), dict(profile.settings)
    if hasattr(suite, "complete_settings"):
        settings = suite.complete_settings(settings, data, cache, **given(request))
    try:
        settings = suite.Settings(**settings).model_dump(mode="json")
    except ValidationError as error:
        raise InputError(f"profile {request.profile}, {request.suite}.settings: {first_problem(error)}") from None
    return RunSpec(suite=request.suite, variant="plain", options=profile.options, data=data_spec(request, profile),
                   train=profile.train.model_copy(update={"precision": precision}), settings=settings,
                   device=device, profile=request.profile)


def device_and_precision(request: Request, profile: SuiteProfile) -> tuple[str, str]:
    """Where and in which precision the runs of a request happen. Imports torch.

    Raises InputError for a device that this machine lacks or a precision that the device lacks.
    """
    from harness.training.device import check_precision, default_precision, resolve_device
    device = resolve_device(request.device)
    precision = request.precision or profile.precision
    precision = default_precision(device) if precision == "auto" else precision
    check_precision(device, precision)
    return device, precision


def same_seed(seed: int) -> Seeds:
    """One number for initialisation, data order and sampling: what arms are paired by."""
    return Seeds(init=seed, data=seed, sampling=seed)
