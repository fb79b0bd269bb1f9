"""From a study's file to runs: what runs, what is kept, what is refused before anything runs."""

import json

import pytest
import yaml
from rich.console import Console

from harness.ablation import ablate as ablation
from harness.ablation.ablate import AblateOptions, ablate
from harness.ablation.manifest import arm_key, read_manifest
from harness.cli import show_report
from harness.errors import InputError
from harness.execution import Execution
from harness.plan import Request
from harness.record import read_records

TINY = {"train.steps": 3, "train.validate_every": 0, "train.batch_size": 4, "options.width": 4}
DATA = {"data.train": 8, "data.validation": 2, "data.test": 3, "data.image_size": 32}
STUDY = {"title": "Tiny", "question": "Does it run?", "base": "concat", "seeds": 1,
         "suites": {"segmentation": {"outcome": "dice_macro", "also": ["iou_macro"], "curve": "validation Dice",
                                     "set": {**TINY, **DATA}}},
         "arms": {"concat": {"variant": "plain"}, "none": {"variant": "no_skip"}}}
TWO_LEVELS = {"segmentation": {**STUDY["suites"]["segmentation"],        # where many runs are made
                               "set": {**TINY, **DATA, "options.channel_mult": [1, 2], "train.steps": 1}}}


@pytest.fixture
def study(tmp_path):
    def write(**changes):
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump({**STUDY, **changes}, sort_keys=False))
        return str(path)
    return write


def asked(name, tmp_path, suite="", **more):
    request = Request(suite=suite, profile="smoke", device="cpu")
    return AblateOptions(name, request, out=tmp_path / "out", how=Execution(in_process=True), **more)


def quiet():
    return Console(quiet=True)


def started(tmp_path):
    return {record.run_id: record.started for record in read_records(tmp_path / "out" / "runs")[0]}


def test_a_study_runs_once_and_one_more_seed_runs_only_that(study, tmp_path, monkeypatch):
    name = study()
    made = []
    import harness.run
    real = harness.run.run
    monkeypatch.setattr("harness.run.run", lambda spec, *a, **k: made.append(spec) or real(spec, *a, **k))
    assert ablate(asked(name, tmp_path), quiet(), show_report) == 0
    assert [(spec.variant, spec.seeds.init) for spec in made] == [("plain", 0), ("no_skip", 0)]
    assert (tmp_path / "out" / "report.html").exists()
    made.clear()
    assert ablate(asked(name, tmp_path), quiet()) == 0
    assert not made
    assert ablate(asked(name, tmp_path, seeds="2"), quiet()) == 0
    assert [(spec.variant, spec.seeds.init) for spec in made] == [("plain", 1), ("no_skip", 1)]
    manifest = read_manifest(tmp_path / "out")
    assert manifest.seeds == (0, 1) and manifest.earlier_counts == (1,)
    made.clear()
    # fewer seeds than there are: none may be dropped after its result was seen
    assert ablate(asked(name, tmp_path, seeds="1"), quiet()) == 0
    assert not made and read_manifest(tmp_path / "out").seeds == (0, 1)


def test_records_belong_to_arms_and_specs_are_portable(study, tmp_path):
    assert ablate(asked(study(), tmp_path), quiet()) == 0
    manifest = read_manifest(tmp_path / "out")
    records, _ = read_records(tmp_path / "out" / "runs")
    keys = {arm.key: arm.name for arm in manifest.parts[0].arms}
    assert sorted(keys[arm_key(record.spec)] for record in records) == ["concat", "none"]
    assert str(tmp_path) not in (tmp_path / "out" / "study.json").read_text()


def test_matched_arms_share_the_base(study, tmp_path):
    arms = {**STUDY["arms"], "gate": {"variant": "attention_gate"}}
    assert ablate(asked(study(arms=arms, match=["none", "params"]), tmp_path), quiet()) == 0
    none, params = read_manifest(tmp_path / "out").parts
    assert none.base.key == params.base.key
    records, _ = read_records(tmp_path / "out" / "runs")
    parameters = {arm_key(record.spec): record.cost["parameters"].value for record in records}
    for arm in params.arms[1:]:
        assert abs(parameters[arm.key] / parameters[params.base.key] - 1) <= 0.02
        assert arm.match.within and arm.match.value == parameters[arm.key]
    assert len(records) == len({arm.key for part in (none, params) for arm in part.arms})


def test_tuned_arms_have_their_own_rate_and_trials_stay_out_of_the_report(study, tmp_path):
    assert ablate(asked(study(), tmp_path, tune=2), quiet()) == 0
    part, = read_manifest(tmp_path / "out").parts
    for arm in part.arms:
        assert len(arm.tuning.trials) == 2
        assert arm.spec.train.learning_rate == arm.tuning.learning_rate
    assert len(read_records(tmp_path / "out" / "runs")[0]) == 2
    trials, _ = read_records(tmp_path / "out" / "tuning" / "runs")
    assert len(trials) == 4 and not any(record.metrics or record.spec.evaluate_on_test for record in trials)


def test_auto_adds_seeds_until_the_plan_ends(study, tmp_path):
    assert ablate(asked(study(suites=TWO_LEVELS), tmp_path, seeds="auto", max_seeds=7), quiet()) == 0
    manifest = read_manifest(tmp_path / "out")
    assert manifest.interim_analyses.counts == (6, 7) and len(manifest.seeds) in (6, 7)
    with pytest.raises(InputError, match="fixed before the first"):
        ablate(asked(study(suites=TWO_LEVELS), tmp_path, seeds="auto", max_seeds=9), quiet())
    with pytest.raises(InputError, match="--seeds auto"):
        ablate(asked(study(suites=TWO_LEVELS), tmp_path), quiet())


def test_auto_stops_once_all_is_decided(study, tmp_path, monkeypatch):
    monkeypatch.setattr(ablation.Sweep, "undecided", lambda self: [])
    assert ablate(asked(study(suites=TWO_LEVELS), tmp_path, seeds="auto", max_seeds=8), quiet()) == 0
    manifest = read_manifest(tmp_path / "out")
    # 6 seeds cannot decide what a first of two analyses may
    assert len(manifest.seeds) == manifest.interim_analyses.counts[0] == 7


@pytest.mark.parametrize("changes, says", [
    ({"arms": {"concat": {}, "none": {"options.skp": "none"}}},
     ":[0-9]+: unknown option of plain: 'skp'; did you mean 'skip'"),
    ({"arms": {"concat": {}, "none": {"options.skip": "nnoe"}}}, ":[0-9]+: plain cannot be built so: unknown skip"),
    ({"arms": {"concat": {}, "none": {"settings.los": "ce"}}}, "unknown setting 'los'; did you mean 'loss'"),
    ({"arms": {"concat": {}, "none": {"train.steps": 0}}}, ":[0-9]+: train.steps must be above 0"),
    ({"arms": {"concat": {}, "none": {"options.width": 4}}}, "'concat' and 'none' are the same run"),
    ({"suites": {"segmentation": {**STUDY["suites"]["segmentation"], "set": {"train.steps": -1}}}}, ":[0-9]+: train.s"),
])
def test_what_cannot_run_is_refused_with_its_line(study, tmp_path, changes, says):
    with pytest.raises(InputError, match=says):
        ablate(asked(study(**changes), tmp_path), quiet())
    # Nothing but decoded data, which the next try opens: of a large folder they took minutes.
    left = [path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert all(path.parts[:2] == ("cache", "data") for path in left)


@pytest.mark.parametrize("content, says", [
    ("def Net(**k):\n    raise SystemExit(0)\n", ":[0-9]+: .*Net cannot be built so: .*raised SystemExit: 0"),
    ("def Net(**k):\n    raise OSError('no weights')\n", ":[0-9]+: .*Net cannot be built so: no weights"),
    ("def Net(**k):\n    return 3\n", "must return a torch.nn.Module, not int"),
    ("raise KeyboardInterrupt\n", "Net' cannot be imported: .*KeyboardInterrupt"),
    ("def Net(\n", "mine.py:1 is not Python")])
def test_a_network_that_ends_the_process_is_refused(study, tmp_path, content, says):
    (tmp_path / "mine.py").write_text(content)
    arms = {"concat": {"variant": "plain"}, "mine": {"variant": f"{tmp_path / 'mine.py'}:Net"}}
    with pytest.raises(InputError, match=says):
        ablate(asked(study(arms=arms), tmp_path), quiet())


@pytest.mark.parametrize("content, says", [
    (b'{"name": NaN}', "NaN is no number"), (b"{", "corrupt"), (b"\xff", "corrupt"), (b"[" * 99999, "corrupt"),
    (b"{}", "corrupt .*name: Field required")])
def test_a_damaged_study_file_is_one_line(tmp_path, content, says):
    (tmp_path / "study.json").write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        read_manifest(tmp_path)
    assert str(tmp_path / "study.json") in str(caught.value) and "\n" not in str(caught.value)


def test_an_impossible_match_is_refused_with_its_line(study, tmp_path):
    outside = tmp_path / "fixed.py"
    outside.write_text("import torch\n\n\nclass Fixed(torch.nn.Conv2d):\n"
                       "    def __init__(self, *, in_channels, out_channels, image_size, width=4, time=False,\n"
                       "                 context_dim=None):\n        super().__init__(in_channels, out_channels, 1)\n")
    arms = {"concat": {"variant": "plain"}, "fixed": {"variant": f"{outside}:Fixed"}}
    with pytest.raises(InputError, match="tiny.yaml:[0-9]+: match: params: arm 'fixed' cannot meet"):
        ablate(asked(study(arms=arms, match=["params"]), tmp_path), quiet())


@pytest.mark.parametrize("more, says", [
    ({"seeds": "0"}, "at least 1"), ({"seeds": "many"}, "or auto"), ({"max_seeds": 9}, "goes with --seeds auto"),
    ({"match": "parms"}, "did you mean 'params'"), ({"seeds": "auto", "max_seeds": 3}, "needs at least 6"),
    ({"suite": "generation"}, "unknown suite of this study")])
def test_what_is_asked_for_is_checked(study, tmp_path, more, says):
    with pytest.raises(InputError, match=says):
        ablate(asked(study(), tmp_path, **more), quiet())


def test_a_folder_keeps_to_its_study(study, tmp_path):
    assert ablate(asked(study(), tmp_path), quiet()) == 0
    path = tmp_path / "out" / "study.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "name": "other"}))
    with pytest.raises(InputError, match="holds the study 'other'"):
        ablate(asked(study(), tmp_path), quiet())
