"""What of an efficiency run's record follows from its timed calls in curves.csv, computed again. No torch import."""

from __future__ import annotations

import statistics

from harness.run_files import Run, read_columns

SUITE = "efficiency"
CALLS = {"step": ("training step ms", "train_images_per_s"), "forward": ("forward ms", "inference_images_per_s")}


def recompute_timings(run: Run) -> dict[str, tuple[float, int]]:
    """Metric -> (value, n): medians, interquartile ranges and images per second.

    Empty for runs of other suites, and for calls that curves.csv does not have or that are no numbers.
    """
    found: dict[str, tuple[float, int]] = {}
    if run.record.spec.suite != SUITE:
        return found
    for name, (curve, throughput) in CALLS.items():
        ms = timed_calls(run, curve)
        if len(ms) < 2:
            continue
        lower, middle, upper = statistics.quantiles(ms, n=4, method="inclusive")
        found |= {f"{name}_ms": (middle, len(ms)), f"{name}_iqr_ms": (upper - lower, len(ms)),
                  throughput: (1e3 * run.record.spec.train.batch_size / middle, len(ms))}
    return found


def timed_calls(run: Run, curve: str) -> list[float]:
    """Milliseconds of each call."""
    columns = read_columns(run, "curves.csv", [])  # the check of the files themselves says what is wrong with one
    return [value for name, value in zip(columns["name"], columns["value"]) if name == curve] if columns else []
