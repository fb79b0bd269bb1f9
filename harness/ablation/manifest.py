"""What a study became: its arms as specs, what was matched and tuned, the seeds. ``DIR/study.json``.

``ablate`` writes it beside the runs; analysis, report, claims and verify read it. It says which records
belong to which arm, so a study may compare runs whose budgets or settings differ, which otherwise never
stand in one table. No torch import.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from harness.ablation.matching import Match
from harness.ablation.study import Change, Matching, Study
from harness.errors import InputError
from harness.identity.migrations import current_spec, renamed
from harness.record_form import parsed
from harness.spec import Frozen, RunSpec, Seeds, digest

SCHEMA = 2
FILE = "study.json"


class Trial(Frozen):
    """One learning rate that was tried."""

    learning_rate: float
    value: float | None                            # of the curve on validation data; None = the run failed
    run_id: str


class Tuning(Frozen):
    """How an arm got its learning rate."""

    curve: str                                     # what was looked at, on validation data
    direction: Literal["higher", "lower"]
    trials: tuple[Trial, ...]
    learning_rate: float                           # the best


class PlannedArm(Frozen):
    """An arm of one part: every run of it is ``spec`` with another seed."""

    name: str
    difference: Change = Field(default_factory=dict)         # against the base, as the study's file has it
    levels: dict[str, str] = Field(default_factory=dict)     # axis -> level, where the study has axes
    spec: RunSpec                                  # portable; its seeds are those of seed 0
    match: Match | None = None                     # where the part matches something and this is not the base
    tuning: Tuning | None = None

    @property
    def key(self) -> str:
        return arm_key(self.spec)


class Part(Frozen):
    """A study in one suite under one matching: a base, its arms, one primary outcome."""

    suite: str
    matching: Matching
    outcome: str
    also: tuple[str, ...] = ()
    curve: str = ""
    axes: dict[str, tuple[str, ...]] = Field(default_factory=dict)  # levels, the base's first
    arms: tuple[PlannedArm, ...]                   # the base first

    @property
    def base(self) -> PlannedArm:
        return self.arms[0]

    @property
    def title(self) -> str:
        return self.suite if self.matching == "none" else f"{self.suite}, equal {self.matching}"


class InterimAnalyses(Frozen):
    """The plan of ``--seeds auto``: when results are tested (:class:`harness.stats.sequential.SequentialPlan`)."""

    min_seeds: int
    max_seeds: int
    counts: tuple[int, ...]                        # seeds at each analysis


class Manifest(Frozen):
    """A study as it was planned and run."""

    schema_version: int = Field(SCHEMA, alias="schema")
    name: str
    study: Study
    profile: str
    seeds: tuple[int, ...]
    interim_analyses: InterimAnalyses | None = None  # None = the number of seeds was fixed beforehand
    earlier_counts: tuple[int, ...] = ()           # seeds at each earlier report, where more were added after it
    parts: tuple[Part, ...]
    command: str                                   # that makes it again

    model_config = Frozen.model_config | {"populate_by_name": True}


def arm_key(spec: RunSpec) -> str:
    """What all runs of one arm share: the identity of their spec without its seeds."""
    return digest(spec.model_copy(update={"seeds": Seeds()}).identity())


def write_manifest(out: Path, manifest: Manifest) -> Path:
    """``out/study.json``, replaced whole. Raises OSError where it cannot be written."""
    path, temporary = out / FILE, out / f".{FILE}.unfinished"
    temporary.write_text(manifest.model_dump_json(by_alias=True, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
    return path


def _current(content: Any) -> Any:
    """Return a manifest's JSON with the field names of schema 2; what has not the form of schema 1 as it is."""
    if not isinstance(content, dict) or content.get("schema") != 1:
        return content
    try:
        parts = [{**part, "arms": [{**arm, "spec": current_spec(arm["spec"])} for arm in part["arms"]]}
                 for part in content["parts"]]
    except (LookupError, TypeError):               # the model says what is wrong
        parts = content.get("parts")
    return {**renamed(content, {"looks": "interim_analyses"}), "parts": parts, "schema": 2}


def read_manifest(out: Path) -> Manifest | None:
    """The study of a results folder; None where it holds none. Raises InputError where it cannot be read."""
    path = out / FILE
    if not path.exists():
        return None
    try:
        content = parsed(path.read_bytes())
    except OSError as error:
        raise InputError(f"unreadable {path}: {error}") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON
        raise InputError(f"corrupt {path}: {error}") from None
    try:
        manifest = Manifest.model_validate(_current(content))
    except ValidationError as error:
        problem: dict[str, Any] = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise InputError(f"corrupt {path}: {place + ': ' if place else ''}{problem['msg']}") from None
    if manifest.schema_version != SCHEMA:
        raise InputError(f"{path} has schema {manifest.schema_version}; this version reads {SCHEMA}")
    return manifest
