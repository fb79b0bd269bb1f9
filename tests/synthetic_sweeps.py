"""Very large output folders, of the shape and size that real runs have, for measuring a report's time and memory.

``python tests/synthetic_sweeps.py OUT --records 10000 --arms 100`` writes one; ``write_many`` is the same.
Files are written as text from a few drafts, so that ten thousand runs take seconds and not an hour.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import math
import shutil
from pathlib import Path

import numpy as np
import synthetic_records as synthetic
from synthetic_pictures import write_pictures

DRAFTS = 8                                         # different curves and cases of one suite
CLASSES = ("background", *(f"digit {i}" for i in range(10)))
SCORES = {"dice": ("Dice", "", "higher"), "iou": ("IoU", "", "higher"),
          "boundary_iou": ("boundary IoU", "", "higher"), "hd95": ("HD95", "px", "lower")}
FIDELITY = {"extractor": "digits-cnn", "weights_hash": "90d3640f0f3abec6", "resize": "none", "dtype": "float32",
            "layer": "pooled 64", "statistics": "float64", "n": 539, "reference": "train", "n_reference": 1078,
            "reference_hash": "f6bad8f9104d7488", "torch_fidelity": "0.4.0", "sampler": "DDIM",
            "num_inference_steps": 25, "eta": 0.0, "schedule": "cosine", "guidance_scale": 1.5}


def write_many(out: Path, records: int = 10_000, *, arms: int = 100, groups: int = 1, pictures: int = 20,
               suites=("segmentation", "generation"), cases: int = 150) -> int:
    """Write about ``records`` runs under ``out/runs`` and return how many: every suite, group and arm alike.

    Groups differ in their number of steps; the seeds are what is left: records / (suites x groups x arms).
    Every 499th run failed. The first ``pictures`` seeds-and-arms of each suite and group have pictures;
    ``cases`` test cases per run of segmentation.
    """
    random = np.random.default_rng(0)
    seeds = max(1, records // (len(suites) * groups * arms))
    drafts = {suite: [_draft(suite, draft, cases) for draft in range(DRAFTS)] for suite in suites}
    runs = out / "runs"
    runs.mkdir(parents=True)
    count = 0
    for suite, group in itertools.product(suites, range(groups)):
        shown, first = {}, None
        for i, (arm, seed) in enumerate(itertools.product(range(arms), range(seeds))):
            count += 1
            name = list(synthetic.VARIANTS)[arm % len(synthetic.VARIANTS)]
            spec = synthetic.make_spec(suite, name, seed, options={"width": 16 + 8 * (arm // 7), "depth": 3},
                                       steps=600 + 10 * group)
            record = json.loads(synthetic.make_record(spec, minute=count % 40_000).model_dump_json(by_alias=True))
            record["started"] = f"2026-{1 + count // 40_320:02}-{1 + count // 1440 % 28:02}T" + record["started"][11:]
            folder = runs / record["run_id"]
            folder.mkdir()
            if count % 499 == 0:
                record |= {"status": "diverged", "error": "loss became NaN at step 412"}
            else:
                metrics, curves, rows = drafts[suite][count % DRAFTS]
                shift = (arm % 7) * (4.0 if suite == "generation" else -0.03) + random.normal(0, 0.01)
                # the one seed of an arm scores what its cases say, so that there is an interval over them
                exact = suite == "segmentation" and seeds == 1
                record["metrics"] = metrics if exact else _scattered(metrics, shift, random)
                record["cost"] = {key: metric.model_dump() for key, metric in
                                  synthetic.costs(suite, name, random).items()}
                (folder / "curves.csv").write_text(curves)
                if rows:
                    (folder / "cases.csv").write_text(rows)
            if i < pictures:
                shown = shown or write_pictures(folder, suite, 0.8, seed)
                first = first or folder
                record["pictures"] = {key: picture.model_dump() for key, picture in shown.items()}
                for key in shown:
                    if folder != first:
                        shutil.copy(first / key, folder / key)
            (folder / "record.json").write_text(json.dumps(record, indent=1))
    return count


def _scattered(metrics: dict, shift: float, random) -> dict:
    metrics = copy.deepcopy(metrics)
    for key, metric in metrics.items():
        if metric["value"] is not None:
            metric["value"] += (10 * shift if key.startswith("hd95") else shift) + random.normal(0, 0.01)
    return metrics


def _draft(suite: str, draft: int, cases: int) -> tuple[dict, str, str]:
    """(metrics without scatter, the text of curves.csv, the text of cases.csv or none)."""
    random = np.random.default_rng(draft)
    losses = [(step, "loss", 0.1 + math.exp(-step / 150) * random.uniform(0.8, 1.2)) for step in range(10, 601, 10)]
    evaluated = [(step, "validation loss", 0.1 + math.exp(-step / 150)) for step in range(100, 601, 100)]
    curves = "step,seconds,name,value\n" + "".join(f"{step},{step * .03:.2f},{name},{value!r}\n"
                                                   for step, name, value in sorted(losses + evaluated))
    if suite == "generation":
        metrics = {key: synthetic.metric(value, f"{key} (digits-cnn)", "", "lower" if key in ("fid", "kid") else
                                         "higher", 539, protocol=FIDELITY, real_data_reference=0.13).model_dump()
                   for key, value in {"fid": 38.6, "kid": 1.6, "precision": .5, "recall": .5, "agreement": .8}.items()}
        return metrics, curves, ""
    table = np.clip(random.normal(0.8, 0.1, (len(SCORES), cases, len(CLASSES))), 0, 1)
    table[random.random(table.shape) < 0.4] = np.nan  # most images show few of the classes
    rows = "case,metric,class,value\n" + "".join(
        f"test-{case:04},{score},{name},{float(table[i, case, j])!r}\n" for i, score in enumerate(SCORES)
        for case in range(cases) for j, name in enumerate(CLASSES))
    metrics = {}
    for i, (score, (label, unit, direction)) in enumerate(SCORES.items()):
        shown = {"average": "mean over classes of means over images", "classes": list(CLASSES[1:]),
                 "empty": "absent from truth and prediction: left out; absent from one: 0"}
        by_class = np.nanmean(table[i], axis=0)
        metrics[f"{score}_macro"] = synthetic.metric(float(by_class[1:].mean()), f"{label} (macro)", unit, direction,
                                                     10 * cases, protocol=shown, undefined=4 * cases).model_dump()
        for name, value in zip(CLASSES, by_class, strict=True):
            metrics[f"{score}/{name}"] = synthetic.metric(float(value), f"{label} {name}", unit, direction, cases,
                                                          protocol={"empty": shown["empty"]}).model_dump()
    return metrics, curves, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    for name, value in (("records", 10_000), ("arms", 100), ("groups", 1), ("pictures", 20), ("cases", 150)):
        parser.add_argument(f"--{name}", type=int, default=value)
    arguments = vars(parser.parse_args())
    print(write_many(**arguments), "records")


if __name__ == "__main__":
    main()
