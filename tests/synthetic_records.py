"""Output folders that look like real ones, made in a second without training; a study's: synthetic_study.py.

``write_output(out)`` leaves ``out/runs/<run_id>/`` with records, curves, cases and drawn pictures for both
suites. Numbers are random but shaped like real ones: arms differ in quality, seeds and cases scatter.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
from synthetic_pictures import SIDE, palette_png, write_pictures  # noqa: F401  tests ask this module for them

from harness.record import Metric, Record, write_record
from harness.spec import DataSpec, RunSpec, Seeds, TrainSpec, digest

# fmt: off
# variant             FID  Dice  parameters  MACs   images/s  memory MiB
VARIANTS = {
    "plain":           (5.2, .905, 1_930_000, 34.1e6, 212., 148),
    "no_skip":         (21., .790, 1_610_000, 27.9e6, 251., 121),
    "residual":        (5.6, .911, 2_040_000, 36.0e6, 189., 163),
    "attention_gate":  (6.1, .908, 1_990_000, 36.8e6, 171., 170),
    "cross_attention": (8.0, .893, 2_750_000, 48.5e6, 96.2, 255),
    "dit":             (33., .741, 3_120_000, 61.0e6, 74.8, 231),
    "fcn":             (88., .702, 1_180_000, 12.2e6, 402., 86),
}
# fmt: on
CLASSES = ("background", "cell", "border")


def make_spec(
    suite="generation", variant="plain", seed=0, *, options=None, data=None, profile="quick", steps=2000
):
    """A spec of one of the two suites with everything else equal, so that runs share a group."""
    return RunSpec(
        suite=suite,
        variant=variant,
        options=options or {},
        profile=profile,
        data=data or DataSpec(name="digits" if suite == "generation" else "cells"),
        train=TrainSpec(steps=steps, batch_size=64, learning_rate=1e-3, ema_decay=0.999),
        settings={"num_inference_steps": 50} if suite == "generation" else {"loss": "cross_entropy+dice"},
        seeds=Seeds(init=seed, data=seed, sampling=seed),
    )


def make_record(
    spec, *, status="ok", error=None, metrics=None, cost=None, pictures=None, code="c0de", minute=0, **over
):
    """A record of ``spec``; its id is what the harness would give it."""
    return Record(
        run_id=spec.run_id(code=code, data="d47a"),
        spec=spec,
        status=status,
        error=error,
        code=code,
        started=f"2026-01-0{1 + minute // 1440}T{minute // 60 % 24:02}:{minute % 60:02}:00Z",
        duration_s=61.5,
        env={
            "python": "3.11.8",
            "system": "Linux x86_64",
            "cpu": "Some CPU @ 2.5 GHz",
            "cores": 2,
            "device": "cpu",
            "memory_bytes": 8 << 30,
            "threads": 2,
            "git": "0123456789abcdef",
            "dirty": False,
            "packages": {"torch": "2.15.0", "diffusers": "0.42.0"},
        },
        data={
            "name": spec.data.name,
            "classes": [str(i) for i in range(10)] if spec.suite == "generation" else list(CLASSES),
            "splits": {"train": 1000, "validation": 100, "test": 20},
            "fingerprint": "d47a",
        }
        if status != "failed"
        else {},
        metrics=metrics or {},
        cost=cost or {},
        pictures=pictures or {},
        **over,
    )


def metric(value, label="FID (digits-cnn)", unit="", direction="lower", n=1000, **more):
    return Metric(value=value, label=label, unit=unit, direction=direction, n=n, **more)


def generation_metrics(fid, random, **protocol):
    """The five numbers of the generation suite, scattered around a given FID."""
    fid = fid * random.normal(1, 0.04)
    protocol = {"extractor": "digits-cnn", "weights": "9f3c", "samples": 1000, **protocol}
    good = math.exp(-fid / 60)
    return {
        "fid": metric(fid, protocol=protocol, real_data_reference=1.93),
        "kid": metric(fid / 310 + random.normal(0, 0.001), "KID (digits-cnn)", protocol=protocol,
                      real_data_reference=0.0006),
        "precision": metric(
            0.93 * good + random.normal(0, 0.01), "Precision", "", "higher", protocol=protocol, real_data_reference=0.95
        ),
        "recall": metric(
            0.88 * good + random.normal(0, 0.01), "Recall", "", "higher", protocol=protocol, real_data_reference=0.94
        ),
        "label_agreement": metric(
            0.2 + 0.78 * good + random.normal(0, 0.005), "Label agreement", "", "higher", real_data_reference=0.985
        ),
    }


def segmentation_cases(dice, random, cases=20):
    """Per-case Dice (cases, classes); the border class is the hard one and is absent from one case."""
    table = np.clip(random.normal([dice + 0.06, dice, dice - 0.12], 0.04, (cases, len(CLASSES))), 0, 1)
    table[0, 2] = np.nan
    return table


def segmentation_metrics(table, random):
    iou = table / (2 - table)
    dice_by_class, iou_by_class = np.nanmean(table, axis=0), np.nanmean(iou, axis=0)
    n, foreground = len(table), {"classes": list(CLASSES[1:])}  # averages leave the background out
    metrics, pooled = {}, dice_by_class[1] + 0.01
    for key, label, value in (
        ("dice_macro", "Dice (macro)", dice_by_class[1:].mean()),
        ("dice_micro", "Dice (micro)", pooled),
        ("iou_macro", "IoU (macro)", iou_by_class[1:].mean()),
        ("iou_micro", "IoU (micro)", pooled / (2 - pooled)),
        ("boundary_iou_macro", "boundary IoU (macro)", iou_by_class[2] - 0.1),
    ):
        count = 2 * n if "macro" in key else n
        lost = int(np.isnan(table[:, 1:]).sum()) if "macro" in key else 0
        metrics[key] = metric(float(value), label, "", "higher", count, undefined=lost, protocol=foreground)
    distance = float(30 * (1 - dice_by_class.mean()) + random.normal(0, 0.2))
    metrics["hd95_macro"] = metric(distance, "HD95 (macro)", "px", "lower", 2 * n, undefined=1)
    for i, name in enumerate(CLASSES):
        lost = int(np.isnan(table[:, i]).sum())
        metrics[f"dice/{name}"] = metric(float(dice_by_class[i]), f"Dice {name}", "", "higher", n, undefined=lost)
        metrics[f"iou/{name}"] = metric(float(iou_by_class[i]), f"IoU {name}", "", "higher", n, undefined=lost)
    return metrics


def costs(suite, variant, random):
    _, _, parameters, macs, speed, memory = VARIANTS.get(variant, VARIANTS["plain"])
    timed = "sampling" if suite == "generation" else "inference"
    none = {"protocol": {"batch_size": 64}, "n": 20}
    jitter = random.normal(1, 0.02)
    return {
        "parameters": metric(parameters, "Parameters", "", "lower", 1),
        "macs": metric(macs, "MACs", "MAC", "lower", 1),
        "flops": metric(2 * macs, "FLOPs", "FLOP", "lower", 1),
        "step_ms": metric(64_000 / (6 * speed * jitter), "Training step", "ms", "lower", **none),
        "train_images_per_s": metric(6 * speed * jitter, "Training throughput", "images/s", "higher", **none),
        f"{timed}_images_per_s": metric(
            speed * jitter, f"{timed.capitalize()} throughput", "images/s", "higher", **none
        ),
        "peak_memory_bytes": metric((memory << 20) * random.normal(1, 0.01), "Peak memory", "B", "lower", 1),
    }


def write_curves(folder, suite, level, random, steps=2000):
    """Training loss every 10 steps, validation every 200; one point is NaN."""
    rows = []
    for step in range(10, steps + 1, 10):
        rows.append((step, step * 0.03, "loss", (0.02 + level + math.exp(-step / 250)) * random.normal(1, 0.15)))
        if step % 200 == 0:
            rows.append((step, step * 0.03, "validation loss", 0.025 + level + math.exp(-step / 250)))
            if suite == "segmentation":
                rows.append((step, step * 0.03, "validation dice", (1 - level) * (1 - math.exp(-step / 400))))
    rows.append((steps, steps * 0.03, "validation loss", math.nan))
    with (folder / "curves.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("step", "seconds", "name", "value"), *rows])


def write_cases(folder, table):
    with (folder / "cases.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("case", "metric", "class", "value"))
        for i, row in enumerate(table):
            for name, value in zip(CLASSES, row, strict=True):
                writer.writerow((f"case{i:02}", "dice", name, "" if np.isnan(value) else repr(float(value))))


def write_run(
    out: Path, spec: RunSpec, *, status="ok", error=None, pictures=True, curves=True, minute=0, **over
) -> Record:
    """One run folder; quality follows the variant's row in ``VARIANTS`` (``plain``'s where it has none)."""
    random = np.random.default_rng(int(digest(spec.identity()), 16))
    quality = VARIANTS.get(spec.variant, VARIANTS["plain"])[0 if spec.suite == "generation" else 1]
    folder = out / "runs" / make_record(spec, status=status, **over).run_id
    folder.mkdir(parents=True)
    if status != "ok":
        record = make_record(spec, status=status, error=error, minute=minute, **over)
    else:
        if spec.suite == "generation":
            metrics = generation_metrics(quality, random)
        else:
            table = segmentation_cases(quality, random)
            metrics = segmentation_metrics(table, random)
            write_cases(folder, table)
        if curves:
            write_curves(folder, spec.suite, quality / 300 if spec.suite == "generation" else 1 - quality, random)
        shown = write_pictures(folder, spec.suite, quality, spec.seeds.init) if pictures else {}
        record = make_record(
            spec,
            metrics=metrics,
            cost=costs(spec.suite, spec.variant, random),
            pictures=shown,
            minute=minute,
            **over,
        )
    write_record(folder, record)
    return record


def write_output(
    out: Path, *, suites=("segmentation", "generation"), seeds=3, variants=tuple(VARIANTS), failures=True, **more
) -> list[Record]:
    """Every variant × seed of every suite; with ``failures`` one run each fails, runs out of memory, diverges."""
    bad = {
        ("dit", 2): ("oom", "out of memory: tried to allocate 2.4 GiB at batch size 64"),
        ("cross_attention", 1): ("diverged", "loss became NaN at step 412"),
        ("fcn", 0): ("failed", "RuntimeError: sizes 37 and 40 do not match | in <head> & tail_5%"),
    }
    records, minute = [], 0
    for suite in suites:
        for variant in variants:
            for seed in range(seeds):
                status, error = bad.get((variant, seed), ("ok", None)) if failures else ("ok", None)
                minute += 2
                records.append(
                    write_run(
                        out, make_spec(suite, variant, seed), status=status, error=error, minute=minute, **more
                    )
                )
    return records
