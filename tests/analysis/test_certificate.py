"""The certificate says what happened: matched, tuned, paired, missing, and whether the ranking survives."""

import pytest
from synthetic_study import changed, read, study, with_outcome

from harness.ablation.manifest import InterimAnalyses, arm_key
from harness.analysis.certificate import certificate
from harness.analysis.study_analysis import analyse


def certified(manifest, runs):
    """kind -> its statements."""
    found = {}
    for statement in certificate(manifest, analyse(manifest, runs)):
        found.setdefault(statement.kind, []).append(statement)
    return found


def only(found, kind):
    statement, = found[kind]
    return statement


def with_arms(manifest, change):
    parts = tuple(part.model_copy(update={"arms": tuple(map(change, part.arms))}) for part in manifest.parts)
    return manifest.model_copy(update={"parts": parts})


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    manifest, _ = study(out)
    return manifest, read(out)


def test_a_plain_study_matches_and_tunes_nothing_and_says_so(plain):
    found = certified(*plain)
    assert only(found, "matched").holds is False and only(found, "tuned").holds is False
    assert "one learning rate, 0.001" in only(found, "tuned").text
    for kind, words in (("seeds", "the same 8 seeds"), ("order", "the same data (d47a)"), ("code", "the same version"),
                        ("budget", "2,000 steps of 64 images: 128,000 images seen"), ("machine", "Some CPU"),
                        ("runs", "All 48 planned runs finished"), ("analyses", "was not raised")):
        assert only(found, kind).holds is True and words in only(found, kind).text
    assert "Parameters 1.00" in only(found, "cost").text and only(found, "cost").holds is None
    assert "Dice (macro)" in only(found, "outcome").text and "ranking" not in found


def test_matched_sizes_are_listed_with_how_close_they_came(tmp_path):
    manifest, runs = study(tmp_path, matching=("params",))
    statement = only(certified(manifest, runs), "matched")
    error = manifest.parts[0].arms[1].match.error
    assert statement.holds and "1,930,000, within 2 %" in statement.text
    assert f"“none” {100 * error:+.1f} %".replace("-", "\N{MINUS SIGN}") in statement.text
    assert "Parameters" not in only(certified(manifest, runs), "cost").text

    def miss(arm):
        if arm.name != "gate":
            return arm
        return arm.model_copy(update={"match": arm.match.model_copy(update={"within": False, "error": 0.07})})

    statement = only(certified(with_arms(manifest, miss), runs), "matched")
    assert statement.holds is False and "+7.0 %" in statement.text and "Not matched: “gate”" in statement.text


def test_tuning_tells_trials_range_choice_and_an_optimum_at_the_edge(tmp_path):
    manifest, runs = study(tmp_path, tune=5)
    found = certified(manifest, runs)
    assert only(found, "tuned").holds is True and "5 learning-rate trials for every arm" in only(found, "tuned").text
    assert "validation loss on validation data, from 0.0003 to 0.01" in only(found, "tuned").text
    assert "“gate” 0.0017" in only(found, "tuned").text and "not tuned" in found

    def edge(arm):
        tuning = arm.tuning
        if arm.name == "gate":
            tuning = tuning.model_copy(update={"learning_rate": tuning.trials[-1].learning_rate})
        if arm.name == "add":
            tuning = tuning.model_copy(update={"trials": tuning.trials[:-1] + (tuning.trials[-1].model_copy(
                update={"value": None}),)})
        return arm.model_copy(update={"tuning": tuning})

    tuned = certified(with_arms(manifest, edge), runs)["tuned"]
    assert [statement.holds for statement in tuned] == [True, False, None]
    assert tuned[1].text.endswith("beyond it: “gate”.") and "“add” 1 of 5" in tuned[2].text

    def fewer(arm):
        return arm.model_copy(update={"tuning": None}) if arm.name == "none" else arm

    tuned = certified(with_arms(manifest, fewer), runs)["tuned"]
    assert tuned[0].holds is False and "“none” 0" in tuned[0].text


def test_missing_and_failed_runs_are_counted(tmp_path):
    manifest, runs = study(tmp_path, bad={("none", 2): "diverged"})
    missing = [run for run in runs if run.record.spec.seeds.init != 5 or run.record.spec.options.get("skip") != "gate"]
    found = certified(manifest, missing)
    assert only(found, "runs").holds is False and only(found, "seeds").holds is False
    assert only(found, "runs").text == "Of 48 planned runs 46 finished: 1 are not there and 1 diverged."
    assert "“none” 7 and “gate” 7" in only(found, "seeds").text


def test_two_states_of_the_code_and_two_machines_are_told(plain):
    manifest, runs = plain
    other = {**runs[0].record.env, "threads": 8}
    found = certified(manifest, [changed(runs[0], code="beef", env=other), *runs[1:]])
    assert only(found, "code").holds is False and "(2 versions)" in only(found, "code").text
    assert only(found, "machine").holds is False and "threads 8" in only(found, "machine").text


def test_a_study_of_budgets_says_that_they_differ(plain):
    manifest, runs = plain

    def longer(spec):
        steps = 4000 if spec.options.get("skip") == "gate" else 2000
        return spec.model_copy(update={"train": spec.train.model_copy(update={"steps": steps})})

    manifest = with_arms(manifest, lambda arm: arm.model_copy(update={"spec": longer(arm.spec)}))
    found = certified(manifest, [changed(run, spec=longer(run.record.spec)) for run in runs])
    assert only(found, "budget").holds is False and "“gate” 4,000 x 64 = 256,000" in only(found, "budget").text
    assert only(found, "order").holds is True


def test_how_seeds_were_added_is_told(tmp_path):
    manifest, runs = study(tmp_path, seeds=12)
    late = only(certified(manifest.model_copy(update={"earlier_counts": (8,)}), runs), "analyses")
    assert late.holds is False and "which no p is corrected for" in late.text
    analyses = InterimAnalyses(min_seeds=8, max_seeds=12, counts=(8, 12))
    planned = only(certified(manifest.model_copy(update={"interim_analyses": analyses}), runs), "analyses")
    assert planned.holds is True and "8 and 12 seeds" in planned.text


def test_a_ranking_that_survives_and_one_that_does_not(tmp_path):
    manifest, runs = study(tmp_path, matching=("none", "params"), seeds=10)
    assert only(certified(manifest, runs), "ranking").holds is True
    names = {arm.key: arm.name for arm in manifest.parts[1].arms[1:]}      # of equal size only

    def turned(spec, value):                       # at equal size, none leads and gate is last
        return value + {"none": 0.3, "gate": -0.3}.get(names.get(arm_key(spec)), 0)

    statement = only(certified(manifest, with_outcome(runs, "dice_macro", turned)), "ranking")
    assert statement.holds is False and "“none” is worse in one, better in the other" in statement.text
    assert "“gate” is undecided in one, worse in the other" in statement.text
    assert "“none” and “gate” change places" in statement.text


def test_what_all_parts_share_is_said_once(tmp_path):
    manifest, runs = study(tmp_path, matching=("none", "params"))
    found = certified(manifest, runs)
    assert len(found["budget"]) == 1 and found["budget"][0].text.startswith("Every arm")
    assert "2 parts (segmentation; segmentation, equal params) is a family of its own" in only(found, "families").text
    assert "up to 10 %" in only(found, "families").text
    assert [one.text.partition(":")[0] for one in found["matched"]] == ["segmentation", "segmentation, equal params"]
