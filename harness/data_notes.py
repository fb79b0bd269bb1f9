"""What must be said of the data before a number on them is read: one line each, for the terminal and the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST_KINDS = 8          # of files passed over that a line names


def warnings(facts: Mapping[str, Any]) -> list[str]:
    """What makes numbers on data of these ``facts`` (``Record.data``) mean less than they seem to, a line each."""
    found = [passed_over_words(facts.get("passed_over") or {}),
             *_duplicate_words(facts.get("duplicates") or {}, facts.get("splits") or {}),
             _padded_words(facts), _few_words(facts), *_evaluated_words(facts.get("evaluated") or {})]
    return [f"{line[0].upper()}{line[1:]}." for line in found if line]


def notes(facts: Mapping[str, Any]) -> list[str]:
    """The :func:`warnings`, and which class means over classes leave out."""
    left_out = facts.get("left_out_of_means")
    if left_out is None:
        return warnings(facts)
    name = "" if left_out == "0" else f" ({left_out})"
    return [*warnings(facts), f"Means over classes leave out class 0{name}, the background; the setting "
            "include_background: true counts it."]


def passed_over_words(counts: Mapping[str, int]) -> str:
    """Name the files that are not used, as "passed over: 120 files (100 .heic, 20 .png in more)"; "" for none."""
    if not counts:
        return ""
    kinds = sorted(counts.items(), key=lambda item: -item[1])
    words = [f"{count} {kind}" for kind, count in kinds[:MOST_KINDS]]
    if len(kinds) > MOST_KINDS:
        words.append(f"{sum(count for _, count in kinds[MOST_KINDS:])} more")
    total = sum(counts.values())
    return f"passed over: {total} file{'s' * (total > 1)} ({', '.join(words)})"


def _duplicate_words(duplicates: Mapping[str, Mapping[str, int]], splits: Mapping[str, int]) -> list[str]:
    return [f"{count} of {splits.get(split, count)} {split} images {'are' if count > 1 else 'is'} also in {other}: "
            "equal pixels" for split, others in duplicates.items() for other, count in others.items()]


def _evaluated_words(evaluated: Mapping[str, Any]) -> list[str]:
    missing = evaluated.get("missing")
    if not missing:
        return []
    lacking = ", ".join(f"{tool} has none for {count}" for tool, count in missing.items())
    return [f"only {evaluated['cases']} of {evaluated['of']} {evaluated['split']} images have a prediction of every "
            f"tool: {lacking}"]


def _padded_words(facts: Mapping[str, Any]) -> str:
    padded, crop, total = facts.get("padded_images"), facts.get("crop"), sum((facts.get("splits") or {}).values())
    if not padded or not crop:
        return ""
    return (f"{padded} of {total} images {'is' if padded == 1 else 'are'} smaller than the crop of "
            f"{' x '.join(map(str, crop))} and {'is' if padded == 1 else 'are'} padded; what is padded does not count")


def _few_words(facts: Mapping[str, Any]) -> str:
    few = facts.get("few_samples")
    if not few:
        return ""
    return (f"FID, KID, precision and recall come from {few['generated']} generated and {few['train']} training images "
            f"in {few['features']} features: with fewer images than features FID's covariances are singular, and what "
            "two networks differ by may be chance")
