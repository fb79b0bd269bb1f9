"""A command line -> the list of runs it means. Budgets come from profiles, not from flags."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from harness import datasets, networks, suites
from harness.errors import InputError, unknown
from harness.spec import DataSpec, Frozen, RunSpec, Seeds, TrainSpec
from harness.yaml_file import YamlFile

if TYPE_CHECKING:                                  # listing profiles must not wait for numpy
    from harness.dataset import Dataset

DEVICES = ("auto", "cpu", "cuda", "mps")
CORE = ("plain", "no_skip", "residual", "attention_gate", "cross_attention", "dit", "fcn")
PROFILES = Path(__file__).parent / "profiles"


class SuiteProfile(Frozen):
    """One suite's part of a profile: data, size, budget."""

    dataset: str                                   # default data set of the suite
    variants: tuple[str, ...] = CORE               # networks that are compared where --variants does not say
    data_options: dict[str, Any] = Field(default_factory=dict)  # arguments of the default data set's load()
    options: dict[str, Any] = Field(default_factory=dict)       # arguments of every variant's build()
    seeds: int = Field(1, gt=0)                    # runs per variant where --seeds does not say
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    train: TrainSpec
    settings: dict[str, Any] = Field(default_factory=dict)      # the suite's Settings


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
    inception_weights: Path | None = None


def profile_names() -> list[str]:
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def read_profile(name: str, suite: str) -> SuiteProfile:
    """The part for ``suite`` of a shipped profile, or of a YAML file by path.

    Raises InputError for an unknown name, unreadable YAML, or a field that does not fit, with its place.
    """
    path = PROFILES / f"{name}.yaml"
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
    elif name not in profile_names():
        raise unknown("profile", name, profile_names())
    file = YamlFile(path)
    if suite not in file.content:
        raise InputError(f"profile {path} has no part for the suite {suite!r}")
    return file.validate(SuiteProfile, file.content[suite], at=(suite,))


def first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"])         # "" where fields do not fit each other
    return ": ".join(filter(None, [place, problem["msg"].removeprefix("Value error, ")]))


def check_names(request: Request) -> None:
    """Raise InputError for unknown names, without importing torch."""
    if request.suite not in suites.registry.names():
        raise unknown("suite", request.suite, suites.registry.names())
    profile = read_profile(request.profile, request.suite)
    for variant in (*request.variants, *profile.variants):
        if variant != "all":
            networks.check(variant)
    if request.dataset is not None and request.data is not None:
        raise InputError("--dataset names a registered set and --data a folder of your own: give one of them")
    if request.data is None:
        check_dataset(request.dataset or profile.dataset, request.suite)
    if request.seeds is not None and request.seeds < 1:
        raise InputError(f"--seeds must be at least 1, not {request.seeds}")
    if request.device not in DEVICES:
        raise unknown("device", request.device, DEVICES)
    if request.inception_weights is not None and not request.inception_weights.is_file():
        raise InputError(f"--inception-weights: there is no file {request.inception_weights}")
    for option in given(request):
        fitting = [name for name in suites.registry.names() if option in accepted(name)]
        if request.suite not in fitting:
            raise InputError(f"--{option.replace('_', '-')} is for the {' and the '.join(fitting)} suite, "
                             f"not for {request.suite}")


def given(request: Request) -> dict[str, Any]:
    """Options of ``request`` that are not for every suite, as far as they were given."""
    options = {"inception_weights": request.inception_weights}
    return {name: value for name, value in options.items() if value is not None}


def accepted(suite: str) -> tuple[str, ...]:
    return suites.registry.constant(suite, "ACCEPTS") or ()


def check_dataset(name: str, suite: str) -> None:
    if name not in datasets.registry.names():
        raise unknown("data set", name, datasets.registry.names())
    task = suites.registry.constant(suite, "TASK")
    if task not in datasets.registry.constant(name, "TASKS"):
        fitting = [other for other in datasets.registry.names() if task in datasets.registry.constant(other, "TASKS")]
        raise InputError(f"the data set {name!r} is not one for {task}; these are: {', '.join(fitting)}")


def load_data(spec: DataSpec, suite: str) -> Dataset:
    """The data set of ``spec`` for ``suite``. Raises InputError as its file does."""
    task = suites.registry.constant(suite, "TASK")
    load = datasets.registry.load(spec.name).load
    try:
        return load(task, root=spec.root, download=spec.download, **spec.options)
    except TypeError as error:
        if "unexpected keyword argument" in str(error):
            raise InputError(f"data set {spec.name!r}: {error}") from None
        raise


def data_spec(request: Request, profile: SuiteProfile) -> DataSpec:
    if request.data is not None:
        return DataSpec(name="folder", root=str(request.data))
    name = request.dataset or profile.dataset
    root = None if request.data_root is None else str(request.data_root)
    # The profile's options are those of its own data set, and mean nothing to another.
    return DataSpec(name=name, root=root, download=request.download,
                    options=profile.data_options if name == profile.dataset else {})


def make_plan(request: Request, data: Dataset, cache: Path) -> list[RunSpec]:
    """All runs of a request, seed by seed, so that a comparison is whole as early as it can be.

    Arms share data order and sampling noise for a seed. Imports torch (devices, the suite's settings).
    """
    profile = read_profile(request.profile, request.suite)
    base = base_spec(request, profile, data, cache)
    asked = request.variants or profile.variants
    names = dict.fromkeys(name for one in asked for name in (networks.all_names() if one == "all" else [one]))
    return [base.model_copy(update={"variant": name, "seeds": same_seed(seed)})
            for seed in range(request.seeds or profile.seeds) for name in names]


def base_spec(request: Request, profile: SuiteProfile, data: Dataset, cache: Path) -> RunSpec:
    """``plain`` under ``profile``: what every run of a request starts from. Imports torch.

    Raises InputError for a device or precision that is not to be had, and for settings that do not fit.
    """
    from harness.device import check_precision, default_precision, resolve_device
    device = resolve_device(request.device)
    precision = default_precision(device) if profile.precision == "auto" else profile.precision
    suite, settings = suites.registry.load(request.suite), dict(profile.settings)
    if hasattr(suite, "complete_settings"):
        settings = suite.complete_settings(settings, data, cache, **given(request))
    try:
        settings = suite.Settings(**settings).model_dump(mode="json")
    except ValidationError as error:
        raise InputError(f"profile {request.profile}, {request.suite}.settings: {first_problem(error)}") from None
    check_precision(device, precision)
    return RunSpec(suite=request.suite, variant="plain", options=profile.options, data=data_spec(request, profile),
                   train=profile.train.model_copy(update={"precision": precision}), settings=settings,
                   device=device, profile=request.profile)


def same_seed(seed: int) -> Seeds:
    """One number for initialisation, data order and sampling: what arms are paired by."""
    return Seeds(init=seed, data=seed, sampling=seed)
