"""Verdicts on claims: right where the truth is known, inconclusive with the reason where it is not."""

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import synthetic_records as synthetic
import yaml
from click.testing import CliRunner
from synthetic_study import write_study

from harness.ablation.manifest import InterimAnalyses, Manifest, Part, PlannedArm
from harness.ablation.study import Study, read_study
from harness.analysis.claims import (
    CLAIMS,
    KINDS,
    Claim,
    ClaimFile,
    claim_names,
    evaluate_claim,
    read_claim,
    unevaluated,
    verdicts_for,
)
from harness.analysis.comparison import Run
from harness.analysis.study_analysis import analyse
from harness.cli import main
from harness.errors import InputError
from harness.reporting import claims_view
from harness.reporting.claims_view import ResultsFolder
from harness.spec import Seeds

ROOT = Path(__file__).parents[2]
JITTER = np.random.default_rng(0).normal(0, 0.01, 12)         # of logarithms; any seed gets another


def claim_of(kind, *, suite="segmentation", needs=None, **entries):
    file = ClaimFile(statement="It is so.", source="Someone 2020, Table 1", scale="Tiny.", study="made", suite=suite,
                     needs=needs or {}, test={"kind": kind, **entries})
    return Claim("made", file, KINDS[kind].model_validate(file.test))


def results_of(tmp_path, values, *, also=None, direction="higher", curves=None, status=None, steps=2000,
               interim_analyses=None, axes=None, level_of=None):
    """A manifest and the analysis of a study whose outcome is ``values[arm][seed]``; ``also`` holds other metrics."""
    arms, runs = [], []
    for i, name in enumerate(values):
        spec = synthetic.make_spec("segmentation", options={"arm": i}, steps=steps)
        arms.append(PlannedArm(name=name, spec=spec, levels=(level_of or {}).get(name, {})))
        for seed, value in enumerate(values[name]):
            ended = (status or {}).get((name, seed), "ok")
            its = {"dice_macro": value, **{key: table[name][seed] for key, table in (also or {}).items()}}
            metrics = {key: synthetic.metric(one, key, "px" if direction == "lower" else "", direction)
                       for key, one in its.items()} if ended == "ok" else {}
            seeded = spec.model_copy(update={"seeds": Seeds(init=seed, data=seed, sampling=seed)})
            record = synthetic.make_record(seeded, metrics=metrics, status=ended, minute=len(runs))
            folder = tmp_path / "runs" / record.run_id
            folder.mkdir(parents=True)
            if curves:
                with (folder / "curves.csv").open("w", newline="") as file:
                    csv.writer(file).writerows([("step", "seconds", "name", "value"),
                                                *((step, step / 10, "validation Dice", y) for step, y in
                                                  curves[name][seed])])
            runs.append(Run(record, folder))
    base = next(iter(values))
    part = Part(suite="segmentation", matching="none", outcome="dice_macro", also=tuple(also or ()),
                curve="validation Dice" if curves else "", axes=axes or {}, arms=tuple(arms))
    shape = ({"axes": {axis: {level: {"options.arm": f"{axis}{level}"} for level in levels}
                       for axis, levels in axes.items()}, "design": "full"} if axes
             else {"base": base, "arms": {name: {} for name in values}})
    study = Study(title="Made", question="Is it?", suites={"segmentation": {"outcome": "dice_macro"}}, **shape)
    seeds = tuple(range(max(map(len, values.values()))))
    manifest = Manifest(name="made", study=study, profile="quick", seeds=seeds, interim_analyses=interim_analyses,
                        parts=(part,), command="")
    return manifest, analyse(manifest, runs)


def pair(ratio, n=8, spread=1.0, base=0.5):
    """Two arms whose ratio is ``ratio`` times e to the jitter of the seed."""
    reference = base + np.linspace(0, 0.05, n)
    return {"base": list(reference), "arm": list(reference * ratio * np.exp(spread * (JITTER[:n] - JITTER[:n].mean())))}


@pytest.mark.parametrize("ratio, n, spread, verdict, why", [
    (1.20, 8, 1, "supported", ""),
    (1.40, 8, 1, "supported", "the interval lies wholly above the stated range"),
    (1.05, 8, 1, "contradicted", "the effect is there, but smaller"),
    (0.90, 8, 1, "contradicted", "it goes the other way"),
    (1.15, 8, 5, "inconclusive", "the interval spans the smallest effect that matters (+15 %); the sign is as stated"),
    (1.40, 3, 1, "inconclusive", "too few seeds (n = 3, 6 needed)"),
    (1.40, 1, 1, "inconclusive", "too few seeds (n = 1, 6 needed)"),
])
def test_ratio(tmp_path, ratio, n, spread, verdict, why):
    claim = claim_of("ratio", arm="arm", reference="base", at_least=15, at_most=25)
    found = evaluate_claim(claim, *results_of(tmp_path, pair(ratio, n, spread)), tmp_path)
    assert (found.verdict, found.why, found.n) == (verdict, why, n)
    assert f"better by {100 * (ratio - 1):+.3g} %" in found.numbers
    assert found.asked == "better by at least 15 % (stated: 15 to 25 %)"


def test_ratio_of_a_distance_is_how_much_lower_it_is(tmp_path):
    values = pair(0.75, base=40)
    claim = claim_of("ratio", arm="arm", reference="base", at_least=20, at_most=30)
    found = evaluate_claim(claim, *results_of(tmp_path, values, direction="lower"))
    expected = 100 * (1 - np.exp(np.mean(np.log(np.array(values["arm"]) / np.array(values["base"])))))
    assert found.verdict == "supported" and f"better by {expected:+.3g} %" in found.numbers


def test_no_worse_by_more_than_a_margin(tmp_path):
    claim = claim_of("ratio", arm="arm", reference="base", at_least=-10)
    assert evaluate_claim(claim, *results_of(tmp_path / "a", pair(0.95))).verdict == "supported"
    found = evaluate_claim(claim, *results_of(tmp_path / "b", pair(0.80)))
    assert (found.verdict, found.asked) == ("contradicted", "not worse by more than 10 %")


@pytest.mark.parametrize("direction, verdict", [("higher", "supported"), ("lower", "contradicted")])
def test_difference_is_positive_where_it_is_better(tmp_path, direction, verdict):
    claim = claim_of("difference", arm="arm", reference="base", at_least=0.05)
    found = evaluate_claim(claim, *results_of(tmp_path, pair(1.2), direction=direction))
    assert found.verdict == verdict
    assert (" px" in found.numbers) == (direction == "lower")


def test_equal_is_not_better(tmp_path):
    claim = claim_of("difference", arm="arm", reference="base", at_least=0)
    assert evaluate_claim(claim, *results_of(tmp_path, {"base": [0.5] * 8, "arm": [0.5] * 8})).verdict == "inconclusive"


@pytest.mark.parametrize("edge, verdict", [(1.5, "supported"), (1.22, "contradicted")])
def test_ratio_of_ratios(tmp_path, edge, verdict):
    dice, other = pair(1.2), pair(edge, spread=-1)
    claim = claim_of("ratio_of_ratios", arm="arm", reference="base", metric="edges", against="dice_macro", at_least=5)
    found = evaluate_claim(claim, *results_of(tmp_path, dice, also={"edges": other}))
    assert found.verdict == verdict
    assert f"gains more by {100 * (edge / 1.2 - 1):+.3g} %" in found.numbers


def learning(reach, final=0.8, n=8):
    """Per seed, a curve that rises evenly to ``final`` at step ``reach`` (a little later each seed)."""
    return [[(step, min(final, final * step / (reach + 10 * (seed % 3)))) for step in range(10, 1010, 10)]
            for seed in range(n)]


@pytest.mark.parametrize("reach, verdict, why", [
    (300, "supported", "the interval lies wholly above the stated range"),
    (400, "supported", ""),
    (900, "contradicted", "the effect is there, but smaller"),
])
def test_speed(tmp_path, reach, verdict, why):
    curves = {"base": learning(960), "arm": learning(reach)}
    claim = claim_of("speed", arm="arm", reference="base", at_least=2, at_most=3)
    found = evaluate_claim(claim, *results_of(tmp_path, pair(1), curves=curves))
    assert (found.verdict, found.why) == (verdict, why)
    factor = float(found.numbers.partition(", by ")[2].split()[0])
    assert factor == pytest.approx(960 / reach, rel=0.03)


def test_an_arm_that_never_gets_there_is_not_timed(tmp_path):
    curves = {"base": learning(500), "arm": learning(400, final=0.7)[:1] + learning(400)[1:]}
    claim = claim_of("speed", arm="arm", reference="base", at_least=1)
    found = evaluate_claim(claim, *results_of(tmp_path, pair(1), curves=curves))
    assert (found.verdict, found.why) == ("inconclusive", "on 1 of 8 seeds arm never got there")


@pytest.mark.parametrize("extra, verdict", [(0.10, "supported"), (0.0, "contradicted"), (-0.10, "contradicted")])
def test_interaction_is_the_difference_of_differences(tmp_path, extra, verdict):
    axes = {"block": ("plain", "residual"), "depth": ("1", "4")}
    cells = {f"{block}, {depth}": {"block": block, "depth": depth}
             for block in axes["block"] for depth in axes["depth"]}
    gain = {"plain, 1": 0, "residual, 1": 0.05, "plain, 4": 0.02, "residual, 4": 0.07 + extra}
    values = {name: list(0.5 + gain[name] + (i + 1) * 0.1 * JITTER[:9]) for i, name in enumerate(cells)}
    manifest, results = results_of(tmp_path, values, axes=axes, level_of=cells)
    found = evaluate_claim(claim_of("interaction", effect={"block": "residual", "depth": "4"}, at_least=0.03), manifest,
                           results)
    table = {name: np.array(its) for name, its in values.items()}
    expected = (table["residual, 4"] - table["plain, 4"] - table["residual, 1"] + table["plain, 1"]).mean()
    assert found.verdict == verdict and f"by {expected:+.3g} [" in found.numbers
    missing = evaluate_claim(claim_of("interaction", effect={"block": "residual", "depth": "9"}, at_least=0), manifest,
                             results)
    assert missing.verdict == "inconclusive" and "has no effect" in missing.why


@pytest.mark.parametrize("means, verdict, why", [
    ((0.7, 0.6, 0.5), "supported", "all 2 steps of the order hold"),
    ((0.7, 0.5, 0.6), "contradicted", "c is better than b"),
    ((0.7, 0.5, 0.5), "inconclusive", "1 of 2 steps of the order are undecided: b over c"),
])
def test_order(tmp_path, means, verdict, why):
    scatter = np.random.default_rng(1).normal(0, 0.01, (3, 8))
    values = {name: list(mean + its) for name, mean, its in zip("abc", means, scatter, strict=True)}
    found = evaluate_claim(claim_of("order", chains=[["a", "b", "c"]]), *results_of(tmp_path, values))
    assert (found.verdict, found.why) == (verdict, why)


def test_a_failed_run_leaves_the_claim_open_and_only_if_it_is_about_that_arm(tmp_path):
    values = {**pair(1.4), "other": [0.5] * 8}
    claim = claim_of("ratio", arm="arm", reference="base", at_least=15)
    found = evaluate_claim(claim, *results_of(tmp_path / "a", values, status={("arm", 3): "diverged"}))
    assert (found.verdict, found.why) == ("inconclusive", "a run of the arm failed: arm, seed 3 (diverged)")
    found = evaluate_claim(claim, *results_of(tmp_path / "b", values, status={("other", 3): "oom"}))
    assert found.verdict == "supported"


@pytest.mark.parametrize("steps, needs, why", [
    (20, {}, "wrong scale: 20 steps of training, and the claim needs 100"),
    (2000, {"train_images": 50_000}, "wrong scale: 1,000 training images, and the claim is about 50,000 and more"),
])
def test_too_small_a_scale_is_no_evidence(tmp_path, steps, needs, why):
    claim = claim_of("ratio", arm="arm", reference="base", at_least=15, needs=needs)
    found = evaluate_claim(claim, *results_of(tmp_path, pair(1.4), steps=steps))
    assert (found.verdict, found.why) == ("inconclusive", why)


def test_after_several_analyses_the_interval_is_wider(tmp_path):
    claim = claim_of("ratio", arm="arm", reference="base", at_least=15)
    fixed = evaluate_claim(claim, *results_of(tmp_path / "a", pair(1.4)))
    analyses = InterimAnalyses(min_seeds=8, max_seeds=16, counts=(8, 12, 16))
    analysed = evaluate_claim(claim, *results_of(tmp_path / "b", pair(1.4), interim_analyses=analyses))
    assert "(95 % interval" in fixed.numbers and fixed.verdict == "supported"
    level = float(analysed.numbers.partition(" % interval")[0].rpartition("(")[2])
    assert level == pytest.approx(100 * (1 - 0.05 / 4), abs=0.05)          # (8 / 16) ** 2 of 5 % may be spent by then


def test_an_arm_or_part_that_was_not_run_is_said(tmp_path):
    manifest, results = results_of(tmp_path, pair(1.4))
    claim = claim_of("ratio", arm="gone", reference="base", at_least=15)
    assert evaluate_claim(claim, manifest, results).why == "the study that was run has no arm 'gone'"
    claim = claim_of("ratio", suite="generation", arm="arm", reference="base", at_least=15)
    assert "no part for the suite 'generation'" in evaluate_claim(claim, manifest, results).why


def cost(tmp_path, **entries):
    path = tmp_path / "cost.yaml"
    test = {"kind": "cost", "quantity": "parameters", "tested": {"network": "plain", "options": {"width": 8}}}
    path.write_text(yaml.safe_dump({"statement": "S.", "source": "T", "scale": "U.", "test": {**test, **entries}}))
    return unevaluated(read_claim(str(path)))


def test_cost_is_exact(tmp_path):
    small, large = ({"network": "plain", "options": {"width": width}} for width in (4, 16))
    found = cost(tmp_path, references={"large": large}, at_most=0.5)
    assert found.verdict == "supported" and found.n == 0
    assert cost(tmp_path, references={"small": small}, at_most=0.5).verdict == "contradicted"
    both = cost(tmp_path, references={"small": small, "large": large}, at_most=0.5)
    assert (both.verdict, both.why) == ("inconclusive", "it holds against large, not against small")
    itself = {"network": "plain", "options": {"width": 8}, "size": 64}
    macs = cost(tmp_path, quantity="macs", references={"itself": itself}, sizes=[32, 128], at_least=3.99, at_most=4)
    # four times the pixels, four times the convolutions; the time step's embedding does not grow
    assert macs.verdict == "supported" and "(ratio 0.25" in macs.numbers


def test_the_transformers_of_claim_7_have_the_size_of_its_u_net():
    test = read_claim("conv_cheaper_than_transformer").test
    counted = test.model_copy(update={"quantity": "parameters"})
    ours = counted.count(test.tested, 64)
    for network in test.references.values():
        assert counted.count(network, 64) == pytest.approx(ours, rel=0.02)


@pytest.mark.parametrize("change, words", [
    ({"test.kind": "ratoi"}, "unknown kind of test 'ratoi'; did you mean 'ratio'?"),
    ({"test.arm": "concta"}, "did you mean 'concat'?"),
    ({"test.metric": "dice_makro"}, "unknown metric 'dice_makro'; did you mean 'dice_macro'?"),
    ({"test.at_lest": 1}, "unknown entry 'at_lest'; did you mean 'at_least'?"),
    ({"study": "skip"}, "unknown study 'skip'; did you mean 'skips'?"),
    ({"suite": "segmentatoin"}, "did you mean 'segmentation'?"),
    ({"matching": "params"}, "unknown matching of the study 'skips'"),
    ({"statment": "x"}, "unknown entry 'statment'; did you mean 'statement'?"),
    ({"out_of_reach": "too large"}, "a claim has either a test, or"),
])
def test_a_broken_claim_is_one_line_with_its_place(tmp_path, change, words):
    content = yaml.safe_load((CLAIMS / "skips_raise_dice.yaml").read_text())
    for key, value in change.items():
        section, dot, name = key.partition(".")
        (content[section] if dot else content)[name if dot else section] = value
    path = tmp_path / "broken.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(InputError) as error:
        read_claim(str(path))
    assert words in str(error.value) and "\n" not in str(error.value)
    key = next(iter(change)).rpartition(".")[2]
    line = next(i for i, text in enumerate(path.read_text().splitlines(), 1)
                if text.strip().startswith(f"{key}:")) if key != "out_of_reach" else 1
    assert str(error.value).startswith(f"{path}:{line}: ")


def test_twelve_statements_and_more_are_shipped_and_say_their_scale():
    claims = [read_claim(name) for name in claim_names()]
    assert {claim.file.number for claim in claims} - {None} == set(range(1, 13))
    assert sum(claim.file.number is None and not claim.file.out_of_reach for claim in claims) >= 8
    for claim in claims:
        assert len(claim.file.scale) > 20 and claim.file.statement.endswith(".")
        assert any(word in claim.file.source for word in ("arXiv", "20", "README", "Overviews"))


def test_what_was_not_run_says_how_to_run_it():
    found = unevaluated(read_claim("skips_raise_dice"))
    assert (found.verdict, found.why) == ("inconclusive", "not run: python bench.py ablate skips")
    assert "out of reach" in unevaluated(read_claim("latent_quality")).why


def test_verdicts_of_a_study_that_was_run(tmp_path):
    manifest = write_study(tmp_path, pictures=False)
    results = ResultsFolder(tmp_path, manifest).results
    verdicts = {found.claim: found for found in verdicts_for(tmp_path, manifest, results)}
    assert set(verdicts) == set(read_study("skips")[0].claims)
    assert verdicts["skips_raise_dice"].verdict == "supported"             # 0.79 against 0.61
    assert verdicts["dropping_top_skip"].verdict == "contradicted"         # its true effect is -0.06
    assert verdicts["gates_help_segmentation"].verdict in ("contradicted", "inconclusive")    # its true effect is 0
    told = verdicts["skips_improve_fid"].sentence
    for words in ("digits", "training images", "2,000 steps of 64 images", "n = 8", "Asked: better by at least 20 %",
                  f"{tmp_path}/report.html#claim-skips_improve_fid"):
        assert words in told


def run_cli(*arguments):
    return CliRunner().invoke(main, ["claims", *arguments])


def test_command_prefers_the_results_with_most_seeds(tmp_path, monkeypatch):
    write_study(tmp_path / "results" / "few", seeds=6, pictures=False, suites=("segmentation",))
    write_study(tmp_path / "results" / "local" / "many", seeds=8, pictures=False, suites=("segmentation",))
    monkeypatch.chdir(tmp_path)
    done = run_cli("skips_raise_dice", "skips_improve_fid", "--json")
    assert done.exit_code == 0
    dice, fid = json.loads(done.output)
    assert (dice["verdict"], dice["n"]) == ("supported", 8) and "results/local/many/report.html" in dice["link"]
    assert "no part for the suite 'generation'" in fid["why"]
    few = json.loads(run_cli("skips_raise_dice", "--json", "--results", "results/few").output)[0]
    assert few["n"] == 6
    done = run_cli("skips_raise_dice")
    assert done.exit_code == 0 and "Also: " in done.output
    assert "tested by itself at 5 %" in " ".join(done.output.split())


def test_command_names_what_is_wrong(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run_cli("skips_rise_dice")
    assert done.exit_code == 2 and "did you mean 'skips_raise_dice'?" in done.output
    done = run_cli("skips_raise_dice", "--results", str(tmp_path))
    assert done.exit_code == 2 and "holds no study" in done.output
    broken = tmp_path / "results" / "broken"
    broken.mkdir(parents=True)
    (broken / "study.json").write_text("{")
    done = run_cli("skips_raise_dice")             # one bad folder does not hide the others
    assert done.exit_code == 0 and "left out: corrupt" in " ".join(done.output.split())


def test_only_claims_of_cost_wait_for_torch(tmp_path):
    write_study(tmp_path, seeds=6, pictures=False, suites=("segmentation",))
    code = (f"import sys; from pathlib import Path; from harness.reporting.claims_view import show; "
            f"show(['skips_raise_dice'], [Path({str(tmp_path)!r})]); assert 'torch' not in sys.modules")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_before_the_first_analysis_no_claim_is_evaluated(tmp_path):
    claim = claim_of("ratio", arm="arm", reference="base", at_least=15)
    analyses = InterimAnalyses(min_seeds=8, max_seeds=16, counts=(8, 12, 16))
    found = evaluate_claim(claim, *results_of(tmp_path, pair(1.4, 7), interim_analyses=analyses))
    assert (found.verdict, found.why) == ("inconclusive", "too few seeds: the first analysis is at 8")


def test_between_analyses_a_claim_stays_as_it_was_at_the_last(tmp_path):
    claim = claim_of("ratio", arm="arm", reference="base", at_least=15)
    analyses = InterimAnalyses(min_seeds=8, max_seeds=12, counts=(8, 12))
    last = evaluate_claim(claim, *results_of(tmp_path / "a", pair(1.4, 8), interim_analyses=analyses))
    values = pair(1.4, 8)
    values = {name: [*its, 0.1, 0.9, 0.1] for name, its in values.items()}
    between = evaluate_claim(claim, *results_of(tmp_path / "b", values, interim_analyses=analyses))
    assert (between.verdict, between.numbers, between.n) == (last.verdict, last.numbers, 8)


def test_an_undefined_step_of_an_order_leaves_it_open(tmp_path):
    values = {"a": [0.5] * 8, "b": list(np.linspace(0.6, 0.65, 8)), "c": list(np.linspace(0.4, 0.41, 8))}
    claim = claim_of("order", chains=[["a", "b", "c"]])
    assert evaluate_claim(claim, *results_of(tmp_path / "a", values)).verdict == "contradicted"
    values["b"][0] = 0.0                           # has no logarithm: it is not one seed fewer
    assert evaluate_claim(claim, *results_of(tmp_path / "b", values)).verdict == "inconclusive"


def test_seeds_added_after_a_look_are_told(tmp_path):
    claim = claim_of("ratio", arm="arm", reference="base", at_least=15)
    manifest, results = results_of(tmp_path, pair(1.4))
    for counts, told in (((5,), False), ((6,), True)):            # five seeds could not have decided it
        found = evaluate_claim(claim, manifest.model_copy(update={"earlier_counts": counts}), results)
        assert ("added after the results of 6 were seen" in found.numbers) == told


def test_undefined_and_negative_values_leave_a_claim_open(tmp_path):
    values = pair(1.4, n=8)
    values["arm"][0], values["arm"][1] = math.nan, -0.1
    found = evaluate_claim(claim_of("ratio", arm="arm", reference="base", at_least=15), *results_of(tmp_path, values))
    assert found.n == 6
    assert (found.verdict, found.why) == ("inconclusive", "undefined on 2 of 8 seeds")
    assert claims_view.table([found]).row_count == 1
