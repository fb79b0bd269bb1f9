"""Findings of studies whose true effects are known, and what refuses to be one."""

import itertools
import math

import pytest
import synthetic_study as synthetic
from synthetic_study import arm, changed, read, study, with_outcome

from harness.ablation.manifest import InterimAnalyses, arm_key
from harness.analysis.study_analysis import analyse
from harness.analysis.study_runs import arm_runs, values
from harness.stats.hypothesis_tests import holm
from harness.stats.paired import compare_paired
from harness.stats.power import minimum_detectable_effect


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    manifest = synthetic.write_study(out, pictures=False)
    return manifest, read(out)


def test_verdicts_are_the_truth_in_both_directions_of_a_metric(both):
    for result in analyse(*both):
        assert {one.arm.name: one.verdict for one in result.arms} == {
            "concat": "base", "none": "worse", "all-but-top": "worse", "add": "undecided", "gate": "undecided",
            "top-only": "undecided"}
        truth = -0.18 * abs(synthetic.PER_DICE[result.part.suite])
        interval = arm(result, "none").comparison.interval
        assert interval.low < truth < interval.high < 0
        assert [one.arm.name for one in result.arms] == [one.name for one in result.part.arms]


def test_numbers_are_those_of_the_statistics(both):
    manifest, runs = both
    result = analyse(manifest, runs)[1]
    assert result.metric.direction == "lower"
    by_arm = {name: values(its, "fid") for name, its in arm_runs(result.part, runs).items()}
    tests = {name: compare_paired(by_arm["concat"], its, direction="lower")
             for name, its in by_arm.items() if name != "concat"}
    for one, adjusted in zip(result.arms[1:], holm(test.test.p for test in tests.values()), strict=True):
        its = tests[one.arm.name]
        assert one.comparison.interval == its.interval and one.comparison.test == its.test
        assert one.adjusted_p == adjusted
        assert one.detectable == minimum_detectable_effect(its.sd, 8, comparisons=5)
        assert (one.verdict != "undecided") == (adjusted <= 0.05)
    assert set(result.also) == {"kid", "precision"}
    assert result.also["precision"]["none"].interval.mean < 0
    assert result.comparisons == 5 and "5 comparisons with concat" in result.correction


def test_a_difference_that_is_significant_alone_but_not_in_its_family_is_undecided(both):
    manifest, runs = both
    keys = {one.key: one.name for one in manifest.parts[0].arms}
    runs = [run for run in runs if run.record.spec.suite == "segmentation"]

    def small(spec, value):                        # better by 0.01 on seven of eight seeds
        name = keys[arm_key(spec)]
        base = 0.8 + 0.001 * spec.seeds.init
        return base + {"add": 0.01 if spec.seeds.init else -0.001}.get(name, 0.002 * (-1) ** spec.seeds.init)

    manifest = manifest.model_copy(update={"parts": manifest.parts[:1]})
    result, = analyse(manifest, with_outcome(runs, "dice_macro", small))
    assert arm(result, "add").comparison.test.p <= 0.05 < arm(result, "add").adjusted_p
    assert arm(result, "add").verdict == "undecided"


def test_below_the_smallest_n_nothing_is_decided_and_the_answer_says_what_it_takes(tmp_path):
    result, = analyse(*study(tmp_path, seeds=3))
    assert {one.verdict for one in result.arms[1:]} == {"undecided"}
    assert all(math.isinf(one.detectable) for one in result.arms[1:])
    assert "8 seeds are needed for 5 comparisons; this has 3" in result.conclusion
    assert "“none” differs most" in result.conclusion and "worse" not in result.conclusion
    assert {one.letters for one in result.arms} == {""}


def test_the_answer_has_difference_interval_seeds_p_and_what_could_go_unseen(both):
    dice, fid = (result.conclusion for result in analyse(*both))
    assert dice.startswith("“none” is worse than “concat”: Dice (macro) 0.1") and " lower (95 % interval 0.1" in dice
    assert "8 paired seeds, p = 0.039 after Holm over 5 comparisons" in dice
    assert "“add”, “gate” and “top-only” cannot be told apart from “concat”: a difference under 0.0" in dice
    assert "FID (digits-cnn) 1" in fid and " higher (95 % interval" in fid


def test_one_comparison_has_no_family_to_correct_for(tmp_path):
    manifest, runs = study(tmp_path, seeds=6)
    part = manifest.parts[0]
    manifest = manifest.model_copy(update={"parts": (part.model_copy(update={"arms": part.arms[:2]}),)})
    result, = analyse(manifest, runs)
    assert arm(result, "none").adjusted_p == arm(result, "none").comparison.test.p == 2**-5
    assert "Holm" not in result.conclusion and "p = 0.031" in result.conclusion


def test_failed_runs_are_left_out_in_pairs_and_told(tmp_path):
    manifest, runs = study(tmp_path, bad={("none", 2): "diverged", ("none", 5): "diverged", ("concat", 0): "oom"})
    result, = analyse(manifest, runs)
    assert arm(result, "none").comparison.pairs.seeds == (1, 3, 4, 6, 7)
    assert arm(result, "add").comparison.pairs.seeds == (1, 2, 3, 4, 5, 6, 7)
    assert len(arm(result, "none").runs) == 8 and arm(result, "none").verdict == "undecided"
    assert [line for line in result.excluded if line.startswith("none, seed 2: diverged (loss became NaN")]
    assert len(result.excluded) == 3
    assert "“none” diverged on 2 of 8 seeds" in result.conclusion
    assert "“concat” ran out of memory on 1" in result.conclusion


def test_an_arm_without_a_finished_run_keeps_its_place_in_the_family(tmp_path):
    bad = {("gate", seed): "diverged" for seed in range(8)}
    result, = analyse(*study(tmp_path, bad=bad))
    assert math.isnan(arm(result, "gate").adjusted_p) and arm(result, "gate").verdict == "undecided"
    assert arm(result, "none").adjusted_p == 5 * 2**-7
    assert "No finished seed is shared with “concat” by “gate”." in result.conclusion
    assert "“gate” diverged on 8 of 8 seeds" in result.conclusion


def test_nothing_finished_and_nothing_run_are_answers_too(tmp_path):
    manifest, runs = study(tmp_path, seeds=2)
    result, = analyse(manifest, [])
    assert "Nothing can be said yet" in result.conclusion
    assert "12 of 12 planned runs are not there yet" in result.conclusion
    assert result.missing == 12 and result.metric.label == "dice_macro"
    result, = analyse(manifest, [changed(run, status="failed", metrics={}) for run in runs])
    assert "Nothing can be said yet" in result.conclusion and len(result.excluded) == 12


def test_a_factorial_study_is_answered_by_its_factors(tmp_path):
    result, = analyse(*study(tmp_path, axes=True))
    effects = {effect.label: effect for effect in result.effects.effects}
    assert set(effects) == {"depth = 3", "blocks = residual", "depth = 3 x blocks = residual"}
    depth = effects["depth = 3"].interval
    assert depth.low < 0.05 < depth.high and effects["depth = 3"].adjusted_p <= 0.05
    assert result.conclusion.startswith("depth 3 is better than 2: Dice (macro) 0.05")
    assert "No effect of blocks = residual could be told from none." in result.conclusion


def test_a_factorial_study_of_few_seeds_says_what_it_takes(tmp_path):
    result, = analyse(*study(tmp_path, axes=True, seeds=4))
    assert result.conclusion == ("No effect can be decided yet: 7 seeds are needed for 3 effects; 4 seeds have every "
                                 "run.")


def test_an_interaction_is_told_with_what_it_depends_on(tmp_path):
    result, = analyse(*study(tmp_path, axes=True, effects={"depth 3, blocks residual": -0.2}))
    crossed = result.effects.effects[-1].interval
    assert crossed.low < -0.2 < crossed.high
    assert "what depth 3 brings over 2 depends on blocks: it is 0." in result.conclusion
    assert "of Dice (macro) worse with residual than with plain" in result.conclusion


def test_one_at_a_time_axes_have_no_effects(tmp_path):
    manifest, runs = study(tmp_path, axes=True)
    plain = manifest.model_copy(update={"study": manifest.study.model_copy(update={"design": "one_at_a_time"})})
    assert analyse(plain, runs)[0].effects is None


def sequential(manifest, counts):
    analyses = InterimAnalyses(min_seeds=counts[0], max_seeds=counts[-1], counts=counts)
    return manifest.model_copy(update={"interim_analyses": analyses, "seeds": tuple(range(len(manifest.seeds)))})


def test_looks_decide_by_their_plan_and_not_by_holm(tmp_path):
    manifest, runs = study(tmp_path, seeds=12)
    result, = analyse(sequential(manifest, (8, 12, 16)), runs)
    none, add = arm(result, "none"), arm(result, "add")
    assert none.verdict == "worse" and none.decision.status == "decided" and math.isnan(none.adjusted_p)
    assert add.verdict == "undecided" and add.decision.next_analysis == 16
    assert result.level > 0.95 and "analyses at 8, 12, 16 seeds" in result.correction
    assert "decided at the analysis at 12 seeds" in result.conclusion
    assert "the next analysis is at 16 seeds" in result.conclusion
    first, = analyse(sequential(manifest.model_copy(update={"seeds": tuple(range(8))}), (8, 12, 16)),
                     [run for run in runs if run.record.spec.seeds.init < 8])
    # the first of three analyses may spend a quarter of 5 %, which eight seeds cannot reach over five arms
    assert arm(first, "none").comparison.test.p * 5 <= 0.05 and arm(first, "none").verdict == "undecided"


def test_a_look_waits_for_seeds_that_are_still_to_come(tmp_path):
    manifest, runs = study(tmp_path, seeds=12)
    runs = [run for run in runs if run.record.spec.seeds.init != 11 or run.record.spec.options]    # the base's
    result, = analyse(sequential(manifest, (8, 12, 16)), runs)
    assert {one.decision.seeds for one in result.arms[1:]} == {8} and result.missing == 1
    # what is shown is what was seen at that analysis, whatever has come in since
    assert {one.comparison.test.n for one in result.arms[1:]} == {8}
    assert "seed 9: waits for the analysis at 12 seeds" in result.excluded


def test_what_an_early_look_can_see_is_what_it_may_spend(tmp_path):
    manifest, runs = study(tmp_path, seeds=12)
    early = [run for run in runs if run.record.spec.seeds.init < 8]
    first, = analyse(sequential(manifest.model_copy(update={"seeds": tuple(range(8))}), (8, 12, 16)), early)
    assert {one.detectable for one in first.arms[1:]} == {math.inf} and {one.letters for one in first.arms} == {""}
    assert "so few seeds, as 10 are needed" in first.conclusion
    assert "the next analysis is at 12 seeds" in first.conclusion
    second, = analyse(sequential(manifest, (8, 12, 16)), runs)
    fixed, = analyse(manifest, runs)
    assert (second.alpha_spent, second.alpha) == pytest.approx((0.05 * 9 / 16, 0.05 * 5 / 16))
    assert fixed.alpha_spent == fixed.alpha == 0.05
    for one, other in zip(second.arms[1:], fixed.arms[1:], strict=True):
        assert other.detectable < one.detectable < math.inf
    none, = analyse(sequential(manifest.model_copy(update={"seeds": tuple(range(8))}), (8, 12, 16)),
                    [run for run in runs if run.record.spec.seeds.init < 7])
    assert "Nothing is decided before the first analysis, at 8 seeds; this has 7." in none.conclusion


def test_effects_and_letters_of_a_look_are_tested_at_its_share(tmp_path):
    manifest, runs = study(tmp_path, axes=True, effects={"depth 3": 0.05}, seeds=8)
    fixed, = analyse(manifest, runs)
    assert "depth 3 is better than 2" in fixed.conclusion and "95 % interval" in fixed.conclusion
    assert len(set("".join(one.letters for one in fixed.arms))) > 1
    analysed, = analyse(sequential(manifest, (8, 16, 20)), runs)    # 0.8 % at the first, of which 8 seeds cannot decide
    assert "is better than 2" not in analysed.conclusion and "10 seeds are needed for 3 effects" in analysed.conclusion
    assert {one.letters for one in analysed.arms} == {""}


def test_seeds_added_after_results_were_seen_are_told(tmp_path):
    manifest, runs = study(tmp_path, seeds=10)
    for counts, told in (((3,), False), ((8,), True)):
        conclusion = analyse(manifest.model_copy(update={"earlier_counts": counts}), runs)[0].conclusion
        assert ("after the results of 8 were seen, which no p is corrected for" in conclusion) == told


def test_tie_letters_need_seeds_for_all_pairs(tmp_path):
    result, = analyse(*study(tmp_path, seeds=10))
    letters = {one.arm.name: one.letters for one in result.arms}
    assert not set(letters["none"]) & set(letters["concat"]) and set(letters["add"]) & set(letters["concat"])


def test_many_arms_have_no_letters_but_an_order(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.analysis.study_analysis.TIE_WORK", 100)
    result, = analyse(*study(tmp_path, seeds=10))
    assert {one.letters for one in result.arms} == {""} and result.ties.order[-1] == "none"


def test_parts_share_the_base_and_each_is_a_family(tmp_path):
    manifest, runs = study(tmp_path, matching=("none", "params"))
    free, equal = analyse(manifest, runs)
    assert free.base.interval == equal.base.interval
    assert all(one.comparison.interval != other.comparison.interval
               for one, other in zip(free.arms[1:], equal.arms[1:], strict=True))
    assert equal.part.title == "segmentation, equal params" and equal.comparisons == 5


def test_results_do_not_depend_on_the_order_of_the_runs(both):
    manifest, runs = both
    for one, other in itertools.zip_longest(analyse(manifest, runs), analyse(manifest, runs[::-1])):
        assert one.conclusion == other.conclusion and one.excluded == other.excluded
