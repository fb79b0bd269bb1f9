"""FID, KID, precision and recall of the samples: what share of a default run's time they take."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from harness.benchmark.contest import BenchmarkOptions
from harness.benchmark.overhead import DefaultRun
from harness.benchmark.result import Contest, Contestant, Trial, compared
from harness.execute import execute, prepare
from harness.execution import LOCAL, Execution
from harness.metrics.classifier import classifier_extractor
from harness.plan import same_seed

MOST_RUNS = 3                                      # each takes a minute and more
EVALUATED, WHOLE = "evaluation", "whole run"
GOAL = 0.15


def run(asked: BenchmarkOptions, profile: str = "quick", *, how: Execution = LOCAL) -> Contest:
    """The contest: one run of ``plain``, or up to MOST_RUNS where ``rounds`` says so, each with its own seed.

    Raises RuntimeError for a run that did not end well.
    """
    default = DefaultRun.of(asked, profile)
    runs = min(asked.rounds or 1, MOST_RUNS)
    seconds: dict[str, list[float]] = {EVALUATED: [], WHOLE: []}
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "classifier"
        asked.say("training the classifier whose features are compared")
        began = time.perf_counter()
        classifier_extractor(default.data, kept, device=asked.device)
        classifier_s = time.perf_counter() - began
        for seed in range(runs):
            asked.say(f"run {seed + 1} of {runs}")
            out = Path(folder) / f"seed-{seed}"
            shutil.copytree(kept, prepare(out)[1], dirs_exist_ok=True)
            moments: dict[str, float] = {}

            def hear(spec, *, stage: str, moments=moments, **event) -> None:
                moments[stage] = time.perf_counter()

            spec = default.spec.model_copy(update={"seeds": same_seed(seed)})
            record = execute([spec], default.data, out, how=how, listener=hear)[0]
            if record.status != "ok":
                raise RuntimeError(f"the run ended as {record.status}: {record.error}")
            seconds[EVALUATED].append(moments["done"] - moments["evaluating"])
            seconds[WHOLE].append(moments["done"] - moments["start"])
    labels = {EVALUATED: "features, FID, KID, precision, recall, label agreement",
              WHOLE: f"whole run, {default.spec.train.precision}"}
    contestants = {name: Contestant(label=labels[name], seconds=seconds[name]) for name in labels}
    trial = Trial(name="run", contestants=contestants,
                  comparisons=[compared("share", EVALUATED, WHOLE, contestants, goal=GOAL)])
    samples = min(default.settings.samples, len(default.data.test))
    return Contest(
        name="evaluation", trials=[trial],
        setting=f"`bench.py --suite generation --variants plain --profile {profile}`: {default.spec.train.steps} "
                f"training steps, then {samples} samples; from the first of their features to the end of the run, its "
                "files included. That is a results folder's first run, which takes the features of all real images, "
                "too; later ones find them there. The classifier that makes the features was there already: it was "
                f"trained before, in {classifier_s:.1f} s.")
