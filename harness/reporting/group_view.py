"""A comparison -> the facts around its numbers: what was run, how it was measured, where, and how to run it again.

No torch import.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any

from harness.analysis.comparison import Group, data_name
from harness.formatting import scale
from harness.spec import canonical_json

Facts = list[tuple[str, str]]                      # name, value


def reproduce(group: Group) -> str:
    """The command line that makes these runs again, as far as the command line can say it."""
    first = group.runs[0].record.spec
    names = list(dict.fromkeys(run.record.spec.variant for run in group.runs))
    evaluated = group.runs[0].record.data.get("evaluated")
    words = ["python", "bench.py", "--suite", first.suite, "--variants", ",".join(names)]
    if evaluated:
        given = (word for name in names for word in ("--predictions", f"{name}=DIR"))
        words = ["python", "bench.py", "evaluate", *given,
                 "--split", evaluated.get("split", "test")]
    if first.data.name == "folder":
        words += ["--data", first.data.root or "DIR"]
    else:
        words += ["--dataset", first.data.name]
        words += ["--data-root", first.data.root] if first.data.root else []
    if evaluated:
        return shlex.join(words)
    words += ["--seeds", str(max(len(arm.runs) for arm in group.arms))]
    words += ["--profile", first.profile] if first.profile else []
    return shlex.join([*words, "--device", first.device, "--precision", first.train.precision])


def beyond_command(group: Group) -> bool:
    """Whether the runs have options or budgets that the command of :func:`reproduce` does not say."""
    several = len({run.record.spec.variant for run in group.runs}) < len(group.arms)
    return several or not group.runs[0].record.spec.profile


def budget(group: Group) -> Facts:
    """The networks of the arms, and data, training budget and settings: once where all arms share them."""
    record = max((run.record for run in group.runs), key=lambda record: bool(record.data))
    data = {key: value for key, value in record.data.items() if key != "name"}
    specs = {arm.label: arm.runs[0].record.spec for arm in group.arms if arm.runs}
    networks = {}
    for label, spec in specs.items():
        own = "" if label.startswith(spec.variant) else spec.variant
        networks[label] = ", ".join(filter(None, [own, _words(spec.options)])) or "no options"
    same = len(set(networks.values())) == 1
    assumed = {arm.label: arm.runs[0].record.assumed for arm in group.arms if arm.runs and arm.runs[0].record.assumed}
    shared = {
        "options": _words({"every arm": next(iter(networks.values()))} if same else networks),
        "data": _words({"name": data_name(record), **data}),
        "training": _by_arm({name: {**spec.train.model_dump(), "device": spec.device} for name, spec in specs.items()}),
        "settings": _by_arm({name: spec.settings for name, spec in specs.items()})}
    shared["taken for granted"] = " | ".join(f"{label}: {'; '.join(lines)}" for label, lines in assumed.items())
    return [(name, text) for name, text in shared.items() if text]


def _by_arm(settings: dict[str, dict[str, Any]]) -> str:
    """Entries that all arms share once, the others for each arm."""
    words = []
    for key in dict.fromkeys(key for entries in settings.values() for key in entries):
        values = {name: entries.get(key) for name, entries in settings.items()}
        if len({canonical_json(value) for value in values.values()}) == 1:
            words.append(_words({key: next(iter(values.values()))}))
        else:
            words.append(f"{key}: " + "; ".join(f"{_words({name: value})}" for name, value in values.items()))
    return ", ".join(words)


def protocols(group: Group) -> Facts:
    """(columns, protocol) of the quality and cost columns that state one; equal protocols share a line."""
    found: dict[str, list[str]] = {}
    for column in group.columns:
        if column.metric.protocol:
            label = column.key.partition("/")[0] + " by class" if column.per_class else column.label
            labels = found.setdefault(_words(column.metric.protocol), [])
            labels += [label] if label not in labels else []
    return [(", ".join(labels), protocol) for protocol, labels in found.items()]


def environment(group: Group) -> Facts:
    """Every fact about where the runs happened; where they differ, all of its values."""
    found: dict[str, dict[str, None]] = {}
    for run in group.runs:
        for key, value in {**run.record.env, "code": run.record.code}.items():
            if value is not None:
                found.setdefault(key, {})[_fact(key, value)] = None
    return [(key.removesuffix("_bytes"), " / ".join(values)) for key, values in found.items()]


def _fact(key: str, value: Any) -> str:
    if key.endswith("_bytes"):
        factor, unit = scale(value, "B")
        return f"{value * factor:.1f} {unit}"
    return _words(value) if isinstance(value, dict) else str(value)


def _words(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {_words(value) if isinstance(value, dict) else _text(value)}"
                     for key, value in values.items())


def _text(value: Any) -> str:
    is_list = isinstance(value, Iterable) and not isinstance(value, str)
    return f"[{', '.join(map(str, value))}]" if is_list else str(value)
