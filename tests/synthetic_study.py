"""A study's folder that looks like a real one, with known true effects, made in a second without training."""

from __future__ import annotations

import csv
import itertools
import math
import zlib
from pathlib import Path

import numpy as np
import synthetic_records as synthetic
from synthetic_pictures import write_pictures

from harness.ablation.manifest import Manifest, Part, PlannedArm, Trial, Tuning, write_manifest
from harness.ablation.matching import Match
from harness.ablation.study import Study, difference
from harness.record import read_records, write_record
from harness.run_files import Run
from harness.spec import Seeds

# Change of each arm against the base, and its true effect: Dice, positive is better. In FID: -100 times that.
ARMS = {"concat": {}, "none": {"options.skip": "none"}, "add": {"options.skip": "add"},
        "gate": {"options.skip": "gate"}, "top-only": {"options.skip": ["concat", "none"]},
        "all-but-top": {"options.skip": ["none", "concat"]}}
AXES = {"depth": {"2": {}, "3": {"options.depth": 3}},
        "blocks": {"plain": {}, "residual": {"options.block": "residual"}}}
EFFECTS = {"none": -0.18, "all-but-top": -0.06}
AXIS_EFFECTS = {"depth 3": 0.05}
SUITES = {"segmentation": {"outcome": "dice_macro", "also": ["boundary_iou_macro", "hd95_macro"],
                           "curve": "validation Dice"},
          "generation": {"outcome": "fid", "also": ["kid", "precision"], "curve": "validation loss"}}
BASE = {"segmentation": 0.85, "generation": 25.0}
PER_DICE = {"segmentation": 1.0, "generation": -100.0}
SALT = 0                                           # a draw in which no arm without a true effect seems to have one
SEED_SD, RUN_SD = 0.02, 0.005                      # what all arms of a seed share; what is a run's own


def write_study(out: Path, *, seeds: int = 8, effects: dict[str, float] | None = None, matching=("none",), axes=False,
                tune: int = 0, bad: dict[tuple[str, int], str] | None = None, pictures: bool = True,
                suites=tuple(SUITES)) -> Manifest:
    """Write ``out/study.json`` and ``out/runs/<run_id>/`` of a study of six skips, and return its manifest.

    ``effects`` maps an arm to its true effect on Dice, positive is better (on FID it is -100 times as large);
    arms that it does not name have none. Above +0.05 Dice nears 1, and less of the effect is seen. With ``axes``
    the study is a full 2 x 2 factorial instead, and ``effects`` may also name a level ("depth 3"), which every arm
    of it then has. ``bad`` maps (arm, seed) to a status such as "diverged"; ``tune`` gives every arm that many
    learning-rate trials.
    """
    study, designs = _study(seeds, matching, axes, tune, suites)
    effects = (AXIS_EFFECTS if axes else EFFECTS) if effects is None else effects
    parts, minute, written = [], 0, set()
    for suite, match in itertools.product(suites, matching):
        arms = [_planned(suite, match, name, designs, tune) for name in designs]
        names = {axis: tuple(levels) for axis, levels in study.axes.items()}
        parts.append(Part(suite=suite, matching=match, **SUITES[suite], axes=names, arms=tuple(arms)))
        for arm, seed in itertools.product(arms, range(seeds)):
            spec = arm.spec.model_copy(update={"seeds": Seeds(init=seed, data=seed, sampling=seed)})
            if (arm.key, seed) in written:         # the base is the same under every matching
                continue
            written.add((arm.key, seed))
            minute += 1
            effect = effects.get(arm.name, 0.0) + sum(effects.get(f"{axis} {level}", 0.0)
                                                      for axis, level in arm.levels.items())
            write_run(out, spec, effect, minute, status=(bad or {}).get((arm.name, seed), "ok"), pictures=pictures,
                      parameters=arm.match.value if arm.match else None)
    manifest = Manifest(name="depth" if axes else "skips", study=study, profile="quick", seeds=tuple(range(seeds)),
                        parts=tuple(parts), command="python bench.py ablate skips --profile quick")
    write_manifest(out, manifest)
    return manifest


def _study(seeds, matching, axes, tune, suites) -> tuple[Study, dict[str, tuple[dict, dict]]]:
    """The study, and arm -> (change, levels), the base first."""
    shape = {"axes": AXES, "design": "full"} if axes else {"base": "concat", "arms": ARMS}
    title, question = ("Depth and blocks", "Does depth help?") if axes else ("Skip connections", "Do skips help?")
    study = Study(title=title, question=question, suites={name: SUITES[name] for name in suites}, seeds=seeds,
                  match=tuple(matching), tune=tune, **shape)
    if not axes:
        return study, {name: (change, {}) for name, change in ARMS.items()}
    cells = [dict(zip(AXES, levels)) for levels in itertools.product(*AXES.values())]
    return study, {", ".join(f"{axis} {level}" for axis, level in cell.items()):
                   ({key: value for axis, level in cell.items() for key, value in AXES[axis][level].items()}, cell)
                   for cell in cells}


def _planned(suite, match, name, designs, tune) -> PlannedArm:
    base, (change, levels) = next(iter(designs)), designs[name]
    options, found = {key.removeprefix("options."): value for key, value in change.items()}, None
    if match != "none" and name != base:
        width = 30 + zlib.crc32(name.encode()) % 5
        off = (zlib.crc32(name.encode()) % 300 - 150) / 1e4           # up to 1.5 %
        found = Match(quantity=match, target=1_930_000, value=round(1_930_000 * (1 + off)), error=off,
                      options={"width": width}, within=True, tolerance=0.02, tried=11)
        options = {**options, "width": width}
    spec = synthetic.make_spec(suite, "plain", 0, options=options)
    tuning = _tuning(tune) if tune else None
    if tuning:
        rate = {"learning_rate": tuning.learning_rate}
        spec = spec.model_copy(update={"train": spec.train.model_copy(update=rate)})
    return PlannedArm(name=name, difference=difference(change, designs[base][0]), levels=levels, spec=spec, match=found,
                      tuning=tuning)


def _tuning(trials: int) -> Tuning:
    rates = np.geomspace(3e-4, 1e-2, trials)
    tried = [Trial(learning_rate=rate, value=float(abs(math.log10(rate / 1.5e-3))), run_id=f"{i:016x}")
             for i, rate in enumerate(rates)]
    return Tuning(curve="validation loss", direction="lower", trials=tuple(tried),
                  learning_rate=min(tried, key=lambda trial: trial.value).learning_rate)


def write_run(out: Path, spec, effect: float, minute: int, *, status="ok", pictures=True, parameters=None):
    """One run whose outcome is the base's plus ``effect``, with what its seed shares and scatter of its own."""
    random = np.random.default_rng(zlib.crc32(f"{SALT} {spec.suite} {spec.options} {spec.seeds.init}".encode()))
    shared = np.random.default_rng(spec.seeds.init).normal(0, SEED_SD)
    quality = BASE[spec.suite] + PER_DICE[spec.suite] * (effect + shared + random.normal(0, RUN_SD))
    record = synthetic.make_record(spec, status=status, minute=minute,
                                   error=None if status == "ok" else "loss became NaN at step 412")
    folder = out / "runs" / record.run_id
    folder.mkdir(parents=True)
    if status == "ok":
        cost = synthetic.costs(spec.suite, spec.variant, random)
        if parameters is not None:
            cost["parameters"] = cost["parameters"].model_copy(update={"value": parameters})
        if spec.suite == "generation":
            metrics = synthetic.generation_metrics(quality, random)
        else:
            table = synthetic.segmentation_cases(quality, random)
            metrics = synthetic.segmentation_metrics(table, random)
            synthetic.write_cases(folder, table)
        write_curves(folder, spec, quality)
        shown = write_pictures(folder, spec.suite, quality, spec.seeds.init) if pictures else {}
        record = record.model_copy(update={"metrics": metrics, "cost": cost, "pictures": shown})
    write_record(folder, record)
    return record


def write_curves(folder: Path, spec, quality: float) -> None:
    """Validation every 100 steps: it nears a loss that follows the run's quality, from 1 down (Dice: from 0 up)."""
    final = quality / 300 if spec.suite == "generation" else 1 - quality
    rows = []
    for step in range(100, spec.train.steps + 1, 100):
        left = math.exp(-step / 400)
        rows += [(step, step * 0.03, "loss", final + left), (step, step * 0.03, "validation loss", final + left)]
        if spec.suite == "segmentation":
            rows.append((step, step * 0.03, "validation Dice", (1 - final) * (1 - left)))
    with (folder / "curves.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("step", "seconds", "name", "value"), *rows])


def read(out):
    records, problems = read_records(out / "runs")
    assert not problems
    return [Run(record, out / "runs" / record.run_id) for record in records]


def study(out, **changes):
    """(manifest, runs) of a synthetic study, one suite unless told otherwise."""
    manifest = write_study(out, pictures=False, **{"suites": ("segmentation",), **changes})
    return manifest, read(out)


def changed(run, **update):
    return Run(run.record.model_copy(update=update), run.folder)


def with_outcome(runs, key, change):
    """Runs with ``change(spec, value)`` as their outcome."""
    found = []
    for run in runs:
        metric = run.record.metrics[key]
        metric = metric.model_copy(update={"value": change(run.record.spec, metric.value)})
        found.append(changed(run, metrics={**run.record.metrics, key: metric}))
    return found


def arm(result, name):
    return next(one for one in result.arms if one.arm.name == name)
