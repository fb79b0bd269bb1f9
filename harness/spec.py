"""What a run is, as data: typed, frozen, validated, with a canonical form and a content hash.

A :class:`RunSpec` is everything that decides the numbers of one run. It crosses process and
machine borders as JSON; nothing else does. This module imports pydantic only.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

# Schema -> fields of a spec that had another name in it: ids of runs of that schema are over the old names.
RENAMED = {1: {"evaluate_on_test": "judged"}}


class Frozen(BaseModel):
    """Base of every specification: immutable, and an unknown field is an error, not a no-op."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSpec(Frozen):
    """Which data, and where a real set lies on this machine."""

    name: str                                      # a registered data set, or "folder" for anyone's own
    root: str | None = None                        # --data-root or --data DIR; None for embedded sets
    download: bool = False                         # may the loader fetch it from its official source
    options: dict[str, Any] = Field(default_factory=dict)  # arguments of the data set's load()


class TrainSpec(Frozen):
    """The training budget, the same for every arm of a comparison."""

    steps:         int   = Field(0, ge=0)          # optimiser steps; 0: nothing is trained
    batch_size:    int   = Field(1, gt=0)          # images (or crops) per step
    learning_rate: float = Field(0.0, ge=0)        # peak, reached after the warm-up, then cosine decay to 0
    weight_decay:  float = Field(0.0, ge=0)        # AdamW, decoupled
    warmup_steps:  int   = Field(0, ge=0)          # linear from 0
    max_grad_norm: float = Field(1.0, gt=0)        # global gradient norm is clipped to this
    ema_decay:     float = Field(0.0, ge=0, lt=1)  # of the averaged weights that are evaluated; 0 = none kept
    validate_every: int  = Field(0, ge=0)          # steps between validations; 0 = only at the end
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"  # of matrix products; parameters stay fp32
    compile:       bool  = False                   # by torch.compile: seconds to minutes, which long runs win back


class Seeds(Frozen):
    """Separate seeds, so that two arms share data order and sampling noise and differ in one thing only."""

    init:     int = 0                              # initial weights
    data:     int = 0                              # order, crops and augmentation, training noise
    sampling: int = 0                              # starting noise of generated samples


class RunSpec(Frozen):
    """One run: a variant, trained on data in a suite, with one budget and one set of seeds."""

    suite: str                                     # file name in harness/suites
    variant: str                                   # registered name, module:factory or path/file.py:Class
    options: dict[str, Any] = Field(default_factory=dict)   # arguments of the variant's build()
    data: DataSpec
    train: TrainSpec
    settings: dict[str, Any] = Field(default_factory=dict)  # the suite's own; validated by the suite
    seeds: Seeds = Seeds()
    device: str = "cpu"                            # "cpu", "cuda", "cuda:1", "mps"
    evaluate_on_test: bool = True                  # False: a trial for tuning: trained and validated, never shown the
                                                   # test split; its record has curves and cost, no metrics
    profile: str = ""                              # where the budget came from; a label, not an identity

    def portable(self) -> RunSpec:
        """The same spec without paths of this machine, as it is kept in records."""
        root, profile = self.data.root, PurePath(self.profile)
        changed = {"variant": portable_variant(self.variant),
                   "data": self.data.model_copy(update={"root": root and PurePath(root).name}),
                   "profile": profile.name if profile.is_absolute() else self.profile}
        return self.model_copy(update=changed)

    def identity(self, *, schema: int | None = None) -> dict[str, Any]:
        """The fields that decide the numbers, without those at their default, so that a new field changes no id.

        Where the data lies is no such field: its content hash is. Defaults are those of ``schema``, or the latest
        (``spec_defaults.json``).
        """
        tables = default_tables()
        schema = max(tables) if schema is None else schema
        defaults = {**tables[schema]["run"], "settings": tables[schema]["settings"].get(self.suite, {})}
        fields = self._deciding()
        if schema > 1:                             # one file is one network, however its place was written
            fields["variant"] = portable_variant(self.variant)
        for name, old in RENAMED.get(schema, {}).items():
            fields[old] = fields.pop(name)
        return {"defaults": schema, **different(fields, defaults)}

    def complete(self) -> dict[str, Any]:
        """The fields that decide the numbers, those at their default too: for saying in what two runs differ.

        Settings that came after a record was written have their default.
        """
        fields, tables = self._deciding(), default_tables()
        return {**fields, "settings": {**tables[max(tables)]["settings"].get(self.suite, {}), **fields["settings"]}}

    def _deciding(self) -> dict[str, Any]:
        fields = self.model_dump(mode="json", exclude={"profile"})
        return {**fields, "data": {key: fields["data"][key] for key in ("name", "options")}}

    def run_id(self, *, code: str, data: str, schema: int | None = None) -> str:
        """Content address: same spec + same code + same data = same id (16 hex digits).

        ``code`` and ``data`` are fingerprints of the sources and of the data set; ``schema`` as in :meth:`identity`.
        """
        return digest({"spec": self.identity(schema=schema), "code": code, "data": data})

    def group_id(self) -> str:
        """Id of the comparison: runs that differ only in variant, its options and seeds share it."""
        fields = self.identity()
        for key in ("variant", "options", "seeds"):
            fields.pop(key, None)
        return digest(fields)


def portable_variant(variant: str) -> str:
    """Return a network's name without folders of this machine: "path/to/file.py:Class" -> "file.py:Class"."""
    file, colon, name = variant.rpartition(":")
    return f"{PurePath(file).name}:{name}" if colon and file.endswith(".py") else variant


@lru_cache(maxsize=1)
def default_tables() -> dict[int, dict[str, Any]]:
    """Schema of records -> the defaults of a spec and of each shipped suite's settings, frozen since then.

    A suite that is in no table keeps all its settings in its identity.
    """
    content = json.loads((Path(__file__).parent / "spec_defaults.json").read_text())
    return {int(schema): table for schema, table in content.items()}


def different(fields: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """``fields`` without those that equal ``defaults``, within nested ones too.

    A mapping that holds anything (``options``) has an empty default: nothing in it is ever dropped.
    """
    kept = {}
    for name, value in fields.items():
        default = defaults.get(name)
        if isinstance(value, dict) and isinstance(default, dict):
            value = different(value, default)
            if value:
                kept[name] = value
        elif name not in defaults or isinstance(value, bool) != isinstance(default, bool) or value != default:
            kept[name] = value
    return kept


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and no NaN, so that equal values have equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """First 16 hex digits of the SHA-256 of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]
