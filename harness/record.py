"""The record of one run: its schema, the environment it ran in, atomic writing, and reading.

One folder per run, named by its ``run_id``::

    record.json        the record (this file's :class:`Record`; no NaN in the JSON: undefined is null)
    curves.csv         step, seconds, name, value - one row per point of every curve
    cases.csv          case, metric, class, value - one row per test case, metric and class
    *.png              pictures; see the suite that wrote them
    model.safetensors  the weights that were evaluated

The folder is made under a temporary name and renamed when whole, so what looks finished is.
No torch import here: reading thousands of records must take a laptop seconds. What many records say alike
(protocols, environments, settings) is kept once, so that ten thousand of them fit into its memory.
"""

from __future__ import annotations

import gc
import json
import math
import os
import platform
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_serializer, field_validator
from pydantic_core import PydanticSerializationError

from harness.identity.migrations import SCHEMA, SchemaError, migrated
from harness.record_form import escaped, formed, parsed
from harness.spec import Frozen, RunSpec, digest

# A run that ended in one of these says the same again; the others may have been the machine's fault.
FINAL = ("ok", "diverged")
PACKAGES = ("torch", "torchvision", "diffusers", "accelerate", "torchmetrics", "torch-fidelity", "monai",
            "numpy", "scipy", "pandas", "scikit-learn", "scikit-image")


# What records that were read have in common, by its text; and the fingerprints of those protocols (label, unit,
# id), which stay as they are because a protocol in _common lives as long as the process.
_common: dict[str, Any] = {}
_fingerprints: dict[tuple[str, str, int], str] = {}


class Metric(Frozen):
    """One number with everything needed to compare it, or to refuse to."""

    value: float                                   # NaN where undefined, never 0
    label: str                                     # column title, e.g. "FID (digits-cnn)"
    unit: str                                      # "" for a pure number
    direction: Literal["higher", "lower", "none"]  # which way is better; "none" = neither
    protocol: dict[str, Any] = Field(default_factory=dict)  # what must be equal for two values to compare
    n: int                                         # how many cases, samples or timings it comes from
    undefined: int = 0                             # how many of those were undefined and left out
    real_data_reference: float | None = None       # the score of real data under the same protocol
    processor_share: float | None = None           # of a timing: processor time got / asked for, 0..1; None = unknown

    @property
    def fingerprint(self) -> str:
        """Hash of label, unit and protocol: equal fingerprints may stand in one column."""
        known = _fingerprints.get((self.label, self.unit, id(self.protocol)))
        return known or digest({"label": self.label, "unit": self.unit, "protocol": self.protocol})

    @field_validator("protocol")
    @classmethod
    def _has_form(cls, value: dict[str, Any]) -> dict[str, Any]:
        return formed(value, "protocol")

    @field_validator("value", mode="before")
    @classmethod
    def _null_is_nan(cls, value: Any) -> Any:
        return math.nan if value is None else value

    @field_serializer("value")
    def _nan_is_null(self, value: float) -> float | None:
        return value if math.isfinite(value) else None


class Picture(Frozen):
    """One PNG of a run: equal tiles without gaps, so that a report can cut it and set it beside others."""

    rows: int = Field(gt=0)
    columns: int = Field(gt=0)
    caption: str
    # "input", "truth" and "output" show the same cases, column by column; outputs without a truth stand for themselves,
    # beside a "reference" of real data
    role: Literal["input", "truth", "output", "reference", ""] = ""
    heads: tuple[str, ...] = ()                    # what each column is, where it is anything


class Record(Frozen):
    """What one run leaves. ``cost`` and ``metrics`` may be empty when ``status`` is not ``ok``."""

    schema_version: int = Field(SCHEMA, alias="schema")
    run_id: str
    spec: RunSpec
    status: Literal["ok", "failed", "oom", "diverged"]
    error: str | None = None                       # one line; the reason when status is not ok
    started: str                                   # UTC, ISO 8601
    duration_s: float
    code: str                                      # fingerprint of the sources that move numbers
    env: dict[str, Any] = Field(default_factory=dict)
    assumed: tuple[str, ...] = ()                  # of a network from elsewhere: its arguments, inputs, outputs
    data: dict[str, Any] = Field(default_factory=dict)  # name, fields, split sizes, classes, fingerprint
    cost: dict[str, Metric] = Field(default_factory=dict)     # parameters, MACs, times, memory
    metrics: dict[str, Metric] = Field(default_factory=dict)  # quality on the test split; headline first
    pictures: dict[str, Picture] = Field(default_factory=dict)  # file name -> how it is tiled

    model_config = Frozen.model_config | {"populate_by_name": True}

    @field_validator("data", "env")
    @classmethod
    def _has_form(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        return formed(value, info.field_name)


def capture_environment(device: str) -> dict[str, Any]:
    """Where a run happens: versions, processor, threads; the GPU's name where one is used."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    env = {
        "python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(), "cores": os.cpu_count(), "memory_bytes": _memory_bytes(),
        "device": device, "packages": packages, **_git_state(),
    }
    if "torch" in sys.modules:                     # only where a run has loaded it; never for its own sake
        torch = sys.modules["torch"]
        env["threads"] = torch.get_num_threads()
        if device.startswith("cuda"):
            env["gpu"] = torch.cuda.get_device_name(device)
    return env


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def _git_state() -> dict[str, Any]:
    def git(*args: str) -> str | None:
        root = Path(__file__).parent
        try:
            done = subprocess.run(("git", *args), cwd=root, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    changes = git("status", "--porcelain", "--untracked-files=no")
    return {"git": git("rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes)}


@contextmanager
def atomic_directory(runs: Path, run_id: str):
    """Yield a temporary folder beside ``runs/run_id``; rename it into place only if nothing was raised.

    An existing folder of that id is replaced in the same step. Raises OSError where ``runs`` cannot be
    written.
    """
    runs.mkdir(parents=True, exist_ok=True)
    temporary = runs / f".unfinished-{run_id}-{socket.gethostname()}-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        final = runs / run_id
        if final.exists():
            shutil.rmtree(final)
        temporary.rename(final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def alive(pid: int) -> bool:
    """Tell whether there is a process of this number that has not ended; one that nobody has waited for has."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):                  # not Linux, or gone at this moment
        return True


def atomic_write(path: Path, data: bytes) -> None:
    """Write under a temporary name and rename, so that no reader sees half a file."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)


def write_record(folder: Path, record: Record) -> None:
    """Write ``record.json`` into ``folder``; what has no form in UTF-8 (names of other bytes) as escapes."""
    try:
        text = record.model_dump_json(by_alias=True, indent=1)
    except PydanticSerializationError:
        text = json.dumps(escaped(record.model_dump(by_alias=True)), ensure_ascii=False, indent=1)
    (folder / "record.json").write_text(text + "\n", encoding="utf-8")


def read_record(folder: Path) -> Record:
    """Read one run's record; one of an older schema is brought up to date (:mod:`harness.identity.migrations`).

    Raises
    ------
    ValueError
        Naming the file and what is wrong, where it is missing, not JSON, incomplete, or of a schema that this
        version cannot read; then also what to do.
    """
    path = folder / "record.json"
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ValueError(f"unreadable record {path}: {error}") from None
    return parse_record(text, str(path))


def parse_record(text: bytes, where: str) -> Record:
    """Read a record from its JSON. Raises ValueError as :func:`read_record`, naming ``where`` it stands."""
    try:
        return _shared(Record.model_validate(migrated(parsed(text))))
    except SchemaError as error:
        raise ValueError(f"record {where} {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"corrupt record {where}: {place + ': ' if place else ''}{first['msg']}") from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"unreadable record {where}: {error}") from None
    except ValueError as error:
        raise ValueError(f"corrupt record {where}: Invalid JSON: {error}") from None


def _shared(record: Record) -> Record:
    """The record; what it says exactly as an earlier one did becomes the same object, so that it is kept once."""
    def share(part: Frozen, *names: str) -> None:
        fields = part.__dict__                     # frozen for everyone else
        for name in names:
            fields[name] = _common.setdefault(repr(fields[name]), fields[name])
        # which fields were given: 700 bytes for every number, and nobody asks
        object.__setattr__(part, "__pydantic_fields_set__", _common.setdefault(
            str(sorted(part.model_fields_set)), part.model_fields_set))

    share(record, "env", "data")
    share(record.spec, "data", "train", "settings")
    for metric in (*record.cost.values(), *record.metrics.values()):
        share(metric, "protocol")
        key = metric.label, metric.unit, id(metric.protocol)
        if key not in _fingerprints:
            _fingerprints[key] = metric.fingerprint
    return record


def read_records(runs: Path) -> tuple[list[Record], list[str]]:
    """All readable records under ``runs``, oldest first, and one line for each that is not.

    A bad record is named and left alone; the rest is still reported.
    """
    records, problems = [], []
    folders = sorted(path for path in runs.iterdir() if path.is_dir() and not path.name.startswith("."))
    collecting = gc.isenabled()
    gc.disable()                                   # it would walk all records again and again, and free nothing
    try:
        for folder in folders:
            try:
                records.append(read_record(folder))
            except ValueError as error:
                problems.append(str(error))
    finally:
        if collecting:
            gc.enable()
    return sorted(records, key=lambda record: record.started), problems
