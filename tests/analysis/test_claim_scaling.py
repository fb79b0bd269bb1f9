"""Claims about growth: right where the truth is known, inconclusive with the reason where it is not."""

import json
import re

import pytest
import synthetic_efficiency as synthetic
import synthetic_study
import yaml
from command_line import bench, refused
from synthetic_efficiency import Network

from harness.analysis.claim_costs import ScalingClaim
from harness.analysis.claims import CLAIMS, Claim, ClaimFile, is_relevant, read_claim, scaling_verdict, unevaluated
from harness.analysis.scaling import scaling_of
from harness.errors import InputError

PLAIN, DIT = {"variant": "plain"}, {"variant": "dit"}
LINEAR_AND_SQUARE = {"plain": Network(1e5), "dit": Network(0.0, 10.0)}
SHIPPED = ("attention_grows_with_square", "convolution_grows_in_proportion", "unet_faster_than_transformer",
           "latent_forward_faster", "latent_saves_memory")


def evaluated(runs, **test):
    test = {"kind": "scaling", "metric": "step_ms", **test}
    file = ClaimFile(statement="It is so.", source="Someone 2020, Table 1", scale="Tiny.", test=test)
    return scaling_verdict(Claim("made", file, ScalingClaim.model_validate(test)), scaling_of(runs))


@pytest.mark.parametrize("measure", ["exponent", "local_exponent"])
@pytest.mark.parametrize("bars, verdict", [
    ({"at_least": 1.5}, "supported"), ({"at_least": 2.1}, "contradicted"), ({"at_most": 1.5}, "contradicted"),
    ({"at_least": 1.9, "at_most": 2.1}, "supported")])
def test_the_exponent_of_one_network(measure, bars, verdict):
    found = evaluated(synthetic.runs_of(networks=LINEAR_AND_SQUARE, noise=0.002, spread=0.01), measure=measure,
                      tested=DIT,  **bars)
    assert (found.verdict, found.why, found.n) == (verdict, "", 1)
    assert found.numbers.startswith("Training step of dit (2 M parameters), ")
    assert "256 px: exponent 2 " in found.numbers
    assert " at batch 4, fp32 (95 %, " in found.numbers


@pytest.mark.parametrize("measure", ["exponent", "local_exponent"])
def test_against_a_reference_it_is_the_difference(measure):
    runs = synthetic.runs_of(networks=LINEAR_AND_SQUARE, noise=0.002, spread=0.01)
    found = evaluated(runs, measure=measure, tested=DIT, reference=PLAIN, at_least=0.9, at_most=1.1)
    assert found.verdict == "supported"
    assert "dit (2 M parameters) over plain (2 M parameters)" in found.numbers
    larger = float(re.search(r"exponent larger by (\S+) \[", found.numbers)[1])
    assert larger == pytest.approx(1, abs=0.01)                # the synthetic noise moves it by a few thousandths
    assert evaluated(runs, measure=measure, tested=PLAIN, reference=DIT, at_least=0).verdict == "contradicted"


def test_the_interval_of_a_fit_spans_the_bar():
    # a transformer's cost is bent in log-log: no single exponent, and the fit's interval says so
    runs = synthetic.runs_of(noise=0.01)
    found = evaluated(runs, measure="exponent", tested=DIT, at_least=1.5)
    assert (found.verdict, found.why) == ("inconclusive", "the interval spans the bar (1.5)")
    assert evaluated(runs, measure="local_exponent", tested=DIT, at_least=1.5).verdict == "supported"


@pytest.mark.parametrize("spread, verdict", [(0.02, "supported"), (3.0, "inconclusive")])
def test_a_ratio_at_the_largest_common_size_and_the_scatter_of_calls(spread, verdict):
    found = evaluated(synthetic.runs_of(spread=spread), measure="ratio", tested=PLAIN, reference=DIT, at_most=1.0)
    assert found.verdict == verdict and ("the interval spans the bar (1)" in found.why) == (verdict == "inconclusive")
    network, dit = synthetic.NETWORKS["plain"], synthetic.NETWORKS["dit"]
    ratio = network.linear / (dit.linear + dit.square * 256**2)
    assert f"ratio {ratio:.3g} [" in found.numbers and "at 256 px" in found.numbers
    assert "(2 M parameters)" in found.numbers and "(1.88 M parameters)" in found.numbers
    small = evaluated(synthetic.runs_of(sides=(32, 64)), measure="ratio", tested=PLAIN, reference=DIT, at_most=1.0)
    assert small.verdict == "contradicted" and "at 64 px" in small.numbers


def test_counts_are_exact():
    found = evaluated(synthetic.runs_of(), metric="macs", measure="ratio", tested=PLAIN, reference=DIT, at_most=1.0)
    assert found.verdict == "supported" and "(counted exactly)" in found.numbers and "[" not in found.numbers


@pytest.mark.parametrize("metric, at_least, verdict", [("step_ms", 48, "supported"), ("step_ms", 80, "contradicted"),
                                                       ("memory_bytes", 48, "contradicted"),
                                                       ("memory_activations_bytes", 48, "supported")])
def test_one_network_at_two_sizes(metric, at_least, verdict):
    runs = synthetic.runs_of(networks={"plain": Network(1e5)})
    found = evaluated(runs, metric=metric, measure="ratio", tested=PLAIN, smaller=8, at_least=at_least)
    assert found.verdict == verdict and "at 256 px over 32 px: ratio" in found.numbers
    if metric == "step_ms":
        assert "ratio 64 [" in found.numbers
    elif metric == "memory_bytes":                 # the weights do not shrink
        first, last = (32e6 + 1.1 * 600 * side**2 * 4 for side in (32, 256))
        assert f"ratio {last / first:.3g}, " in found.numbers


@pytest.mark.parametrize("sides, test, why", [
    ((32, 64), {"measure": "exponent"}, "too few sizes: 2 sizes from 32 to 64 px, and it takes 3"),
    ((32,), {"measure": "local_exponent"}, "too few sizes: one size, 32 px, and it takes 2"),
    ((32, 64, 128), {"measure": "exponent", "min_side": 256},
     "wrong scale: the largest size is 128 px, and the claim needs 256"),
    ((32, 64), {"measure": "ratio", "smaller": 8}, "too few sizes: training step of plain was measured at none"),
])
def test_too_few_or_too_small_sizes(sides, test, why):
    found = evaluated(synthetic.runs_of(sides=sides), tested=PLAIN, at_least=1, **test)
    assert found.verdict == "inconclusive" and found.why.startswith(why) and found.numbers == ""


def test_not_run():
    found = evaluated(synthetic.runs_of(), measure="exponent", tested={"variant": "uvit"}, at_least=1)
    assert (found.verdict, found.why, found.n) == ("inconclusive", "not run: uvit", 0)
    found = evaluated(synthetic.runs_of(), measure="exponent", tested={**DIT, "options": {"patch_size": 4}}, at_least=1)
    assert found.why == "not run: dit (patch_size = 4)"
    assert unevaluated(read_claim(SHIPPED[0])).why.startswith("not run: python bench.py --suite efficiency")


def test_a_claim_is_about_one_network():
    runs = [run for patch in (2, 4) for run in synthetic.runs_of(options={"dit": {"patch_size": patch, "width": 32}})]
    found = evaluated(runs, measure="exponent", tested=DIT, at_least=1)
    assert found.why.startswith("dit was run as 2 networks, and the claim is about one: dit (patch_size = 2)")
    named = {**DIT, "options": {"patch_size": 4}}
    assert evaluated(runs, measure="local_exponent", tested=named, at_least=1.5).verdict == "supported"


def test_sizes_at_which_it_is_another_network_are_left_out_and_said():
    runs = synthetic.runs_of(sides=(64, 128, 256), networks={"plain": Network(1e5)})
    runs += synthetic.runs_of(sides=(32,), networks={"plain": Network(9e5, parameters=7)})
    found = evaluated(runs, measure="exponent", tested=PLAIN, at_least=0.9, at_most=1.1)
    assert found.verdict == "supported" and "3 sizes from 64 to 256 px" in found.numbers
    assert "left out as another network, by its parameters: plain at 32 px" in found.numbers


def test_what_did_not_fit_is_said():
    runs = synthetic.runs_of(lost={("dit", 256): ("oom", "out of memory")})
    found = evaluated(runs, measure="ratio", tested=PLAIN, reference=DIT, at_most=1.0)
    assert "at 128 px" in found.numbers and found.numbers.endswith("did not finish: dit at 256 px (oom)")
    found = evaluated(runs, measure="ratio", tested=PLAIN, reference=DIT, at_most=1.0, min_side=256)
    assert found.verdict == "inconclusive" and "wrong scale" in found.why and "dit at 256 px (oom)" in found.why


def test_conditions_must_agree_and_those_that_say_nothing_are_named():
    large = synthetic.runs_of(batches=(1,))
    both = evaluated(large + synthetic.runs_of(batches=(16,)), measure="ratio", tested=PLAIN, reference=DIT,
                     at_most=1.0)
    assert both.verdict == "supported" and both.numbers.count("at 256 px") == 1
    assert " at batch 1, fp32; " in both.numbers and " at batch 16, fp32 (" in both.numbers
    some = evaluated(large + synthetic.runs_of(sides=(32, 64), batches=(16,)), measure="ratio", tested=PLAIN,
                  reference=DIT, at_most=1.0, min_side=256)
    assert some.verdict == "supported" and some.why.startswith("nothing is known otherwise (wrong scale")
    mixed = evaluated(large + synthetic.runs_of(sides=(32, 64), batches=(16,)), measure="ratio", tested=PLAIN,
                   reference=DIT, at_most=1.0)
    assert mixed.verdict == "inconclusive"
    assert mixed.why == "batch 1, fp32: supported; batch 16, fp32: contradicted"


def test_several_seeds_give_the_interval():
    found = evaluated(synthetic.runs_of(seeds=(0, 1, 2, 3), noise=0.02, spread=3.0), measure="ratio", tested=PLAIN,
                   reference=DIT, at_most=1.0)
    assert (found.verdict, found.n) == ("supported", 4) and "Student t over seeds" in found.numbers


@pytest.mark.parametrize("change, words", [
    ({"metric": "step_sm"}, "metric"), ({"tested": {"variant": "plian"}}, "did you mean 'plain'?"),
    ({"at_most": None}, "a claim needs a bar"), ({"at_lest": 1}, "did you mean 'at_least'?"),
    ({"measure": "exponent", "smaller": 4}, "smaller is for measure: ratio"),
    ({"measure": "ratio", "reference": None}, "a ratio needs a reference"), ({"measure": "slope"}, "measure")])
def test_a_broken_claim_is_one_line_with_its_place(tmp_path, change, words):
    content = yaml.safe_load((CLAIMS / "unet_faster_than_transformer.yaml").read_text())
    content["test"] = {key: value for key, value in {**content["test"], **change}.items() if value is not None}
    path = tmp_path / "broken.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(InputError) as error:
        read_claim(str(path))
    assert str(error.value).startswith(f"{path}:") and words in str(error.value) and "\n" not in str(error.value)


def test_shipped_claims_are_measured_companions_of_7_and_8_and_no_study_s():
    claims = [read_claim(name) for name in SHIPPED]
    assert {claim.file.number for claim in claims} == {7, 8} and all(claim.about_scaling for claim in claims)
    assert all(claim.test.min_side >= 128 and "Here, " in claim.file.scale for claim in claims)


def test_command_finds_efficiency_runs_beside_studies(tmp_path, monkeypatch):
    options = {"dit": {"patch_size": 4, "width": 32}, "cross_attention": {"attention_levels": [2, 3], "width": 32}}
    networks = {**synthetic.NETWORKS, "cross_attention": Network(220_000.0, 4.0, 4_309_475)}
    out = tmp_path / "results" / "machine"
    synthetic.write_output(out, networks=networks, options=options, noise=0.001)
    manifest = synthetic_study.write_study(tmp_path / "results" / "study", seeds=2, pictures=False,
                                           suites=("segmentation",))
    assert not any(is_relevant(read_claim(name), manifest) for name in SHIPPED)
    monkeypatch.chdir(tmp_path)
    given = bench("claims", *SHIPPED, "--json", "--results", "results/machine", "--results", "results/study")
    verdicts = {one["claim"]: one for one in json.loads(given.output)}
    assert {name: one["verdict"] for name, one in verdicts.items()} == dict(
        zip(SHIPPED, ("supported", "supported", "supported", "supported", "contradicted"), strict=True))
    one = verdicts["unet_faster_than_transformer"]
    assert one["suite"] == "efficiency" and one["link"] == "results/machine/report.html#claim-" + one["claim"]
    assert one["measured"] == "images of 32 to 256 px, Some CPU @ 2.5 GHz" and one["asked"] == "a ratio of at most 1"
    unasked = json.loads(bench("claims", *SHIPPED, "--json").output)       # found by its table, once there is a report
    assert {one["verdict"] for one in unasked} == {"inconclusive"}
    assert bench("report", "results/machine").exit_code == 0
    assert [one["verdict"] for one in json.loads(bench("claims", *SHIPPED, "--json").output)] == [
        one["verdict"] for one in verdicts.values()]


def test_a_folder_with_neither_is_one_line(tmp_path):
    refused(bench("claims", SHIPPED[0], "--results", tmp_path), "holds no study", "no efficiency runs")
