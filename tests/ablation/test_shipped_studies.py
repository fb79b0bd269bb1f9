"""Every shipped study can be read, planned and decided, and knows its claims as they know it."""

from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from harness.ablation.study import read_study, study_names
from harness.analysis.claims import claim_names, read_claim
from harness.plan import Request
from harness.stats.power import smallest_n

TINY = {"segmentation": {"data.train": 2, "data.validation": 2, "data.test": 2}, "generation": {}}
TITLES = ("skips", "blocks", "attention", "time_conditioning", "normalisation", "resampling", "loss", "sampler", "ema",
          "u_vs_transformer", "width_depth", "conditioning")
CACHE = TemporaryDirectory()                       # data that plans share; gone when the tests end


@lru_cache
def planned(name, suite, profile="quick"):
    """The arms of a shipped study as runs, on as little data as can be; every one is built on the meta device."""
    from harness.ablation.study_plan import plan_suite
    study, file, designs = read_study(name)
    part = study.suites[suite]
    small = part.model_copy(update={"set": {**part.set, **TINY[suite]}})
    study = study.model_copy(update={"suites": {**study.suites, suite: small}})
    return plan_suite(study, file, designs, Request(suite=suite, profile=profile), Path(CACHE.name),
                      ("none",)).parts[0]


def test_what_was_promised_is_shipped():
    assert set(TITLES) <= set(study_names())


@pytest.mark.parametrize("name", study_names())
def test_a_study_is_read_explains_itself_and_can_decide(name):
    study, file, arms = read_study(name)
    assert study.question.endswith("?")
    assert file.path.read_text().count("\n#") >= 1 or "    #" in file.path.read_text(), "comments say why"
    # with fewer seeds, no result, however clear, survives Holm over the arms or over the effects
    tests = [len(arms) - 1]
    if study.design != "one_at_a_time":
        sizes = [len(levels) - 1 for levels in study.axes.values()]
        tests.append(sum(sizes) + sum(a * b for i, a in enumerate(sizes) for b in sizes[i + 1:]))
    assert len(study.seed_list) >= smallest_n(comparisons=max(tests))


@pytest.mark.parametrize("name, suite", [(name, suite) for name in study_names()
                                         for suite in read_study(name)[0].suites])
def test_every_arm_is_a_network_and_a_run_of_its_own(name, suite):
    part = planned(name, suite)
    assert len({arm.key for arm in part.arms}) == len(part.arms) == len(read_study(name)[2])


def test_studies_and_claims_know_each_other():
    told = {(claim, name) for name in study_names() for claim in read_study(name)[0].claims}
    claims = {name: read_claim(name) for name in claim_names()}
    assert told == {(name, claim.file.study) for name, claim in claims.items() if claim.of_study}


def test_every_batch_size_sees_as_many_images_at_a_rate_in_proportion():
    budgets = [arm.spec.train for arm in planned("normalisation", "segmentation").arms]
    assert {train.batch_size for train in budgets} == {1, 2, 8, 32}
    assert len({train.batch_size * train.steps for train in budgets}) == 1
    assert len({train.learning_rate / train.batch_size for train in budgets}) == 1
    assert all(0.05 < train.warmup_steps / train.steps < 0.06 for train in budgets)


def test_width_and_depth_trade_at_about_equal_cost():
    from functools import partial

    from harness.datasets import registry
    from harness.identity import networks
    from harness.run import count
    from harness.suites import generation
    data, macs = registry.load("digits").load(("images",)), {}
    for arm in planned("width_depth", "generation").arms:
        settings = generation.Settings(**arm.spec.settings)
        arguments = {**generation.network_arguments(data, settings), **arm.spec.options}
        counted, _ = count(partial(networks.factory(arm.spec.variant), **arguments), arguments["out_channels"],
                           generation.example_inputs(data, settings, 1, "meta"))
        macs[arm.name] = counted["macs"].value
    assert macs["width 16, blocks 4"] == pytest.approx(macs["width 32, blocks 1"], rel=0.2)
    assert macs["width 16, blocks 1"] < 0.5 * macs["width 16, blocks 4"]


def test_samplers_differ_in_sampling_only():
    for name in ("sampler", "ddim_eta"):
        arms = planned(name, "generation").arms
        assert len({(arm.spec.variant, str(arm.spec.options), arm.spec.train) for arm in arms}) == 1
        assert {arm.spec.settings["guidance_scale"] for arm in arms} == {1.0}
