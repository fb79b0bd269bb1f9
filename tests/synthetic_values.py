"""A study in memory: values in, manifest and runs out. No files, so that hundreds can be made in a test."""

from functools import cache
from pathlib import Path

import synthetic_records as synthetic

from harness.ablation.manifest import InterimAnalyses, Manifest, Part, PlannedArm, arm_key
from harness.ablation.study import Study
from harness.analysis.claims import KINDS, Claim, ClaimFile
from harness.analysis.study_runs import Curve
from harness.run_files import Run
from harness.spec import Seeds

_keys = {}


def quick_key(spec):
    """The key of a spec's arm; a test asks thousands of times for the same few."""
    if id(spec) not in _keys:
        _keys[id(spec)] = arm_key(spec), spec      # the spec is kept, so that its id stays its own
    return _keys[id(spec)][0]


@cache
def _template(arm, seed, status):
    spec = synthetic.make_spec("segmentation", options={"arm": arm})
    spec = spec.model_copy(update={"seeds": Seeds(init=seed, data=seed, sampling=seed)})
    return synthetic.make_record(spec, status=status, minute=10 * seed, error=None if status == "ok" else "NaN")


def runs_of(values, failed=(), direction="higher"):
    """Runs of ``values[metric][arm][seed]``; ``failed`` are (arm, seed) that diverged."""
    metrics = list(values)
    runs = []
    for i, arm in enumerate(values[metrics[0]]):
        for seed in range(len(values[metrics[0]][arm])):
            if (arm, seed) in failed:
                runs.append(Run(_template(i, seed, "diverged"), Path()))
                continue
            its = {key: synthetic.metric(float(values[key][arm][seed]), key, "", direction) for key in metrics}
            runs.append(Run(_template(i, seed, "ok").model_copy(update={"metrics": its}), Path()))
    return runs


@cache
def manifest_of(arms, seeds, counts=None, axes=(), levels=(), also=(), curve=""):
    """The manifest of arms by name, the base first; ``counts`` = seeds at each look of ``--seeds auto``."""
    axes = dict(axes)
    named = dict(zip(arms, levels, strict=True)) if levels else {}
    planned = tuple(PlannedArm(name=name, spec=_template(i, 0, "ok").spec,
                               levels=dict(zip(axes, named[name], strict=True)) if named else {})
                    for i, name in enumerate(arms))
    part = Part(suite="segmentation", matching="none", outcome="dice_macro", also=also, curve=curve, axes=axes,
                arms=planned)
    shape = ({"axes": {axis: {level: {"options.arm": f"{axis}{level}"} for level in its} for axis, its in axes.items()},
              "design": "full"} if axes else {"base": arms[0], "arms": {name: {} for name in arms}})
    study = Study(title="Made", question="Is it?", suites={"segmentation": {"outcome": "dice_macro"}}, **shape)
    analyses = counts and InterimAnalyses(min_seeds=counts[0], max_seeds=counts[-1], counts=counts)
    return Manifest(name="made", study=study, profile="quick", seeds=tuple(range(seeds)),
                    interim_analyses=analyses, parts=(part,), command="")


def claim_of(kind, **entries):
    file = ClaimFile(statement="It is so.", source="Someone 2020, Table 1", scale="Tiny.", study="made",
                     suite="segmentation", test={"kind": kind, **entries})
    return Claim("made", file, KINDS[kind].model_validate(file.test))


def curve_reaching(step, noise=0.0):
    """A validation curve that rises to its last value at ``step`` of 1000, in points 1 apart."""
    return Curve((0.5 * step, step, 1000.0), (0.05 * step, 0.1 * step, 100.0), (0.4, 0.8, 0.8))
