"""Networks of equal size: every registered one meets the base, and what cannot says why."""

import functools
import json
import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import nn

import variants
from harness.ablation.matching import Match, match_width, measured
from harness.errors import InputError
from harness.inspection import matching_page
from harness.run import count
from variants.parts.sizes import Fine, Scaled

CASES = {
    "segmentation": (dict(in_channels=3, out_channels=11, image_size=(48, 48), width=16),
                     (torch.empty(1, 3, 48, 48, device="meta"),)),
    "generation": (dict(in_channels=1, out_channels=1, image_size=(8, 8), width=32, time=True, context_dim=10),
                   (torch.empty(1, 1, 8, 8, device="meta"), torch.zeros(1, dtype=torch.long, device="meta"),
                    torch.empty(1, 1, 10, device="meta"))),
}
COST = {"params": "parameters", "macs": "macs"}        # our names -> those of a run's record
OUTSIDE = dict(in_channels=3, out_channels=2, image_size=(8, 8))
IMAGE = (torch.empty(1, 3, 8, 8, device="meta"),)


def factory(name):
    return variants.registry.load(name).build


def counted(name, suite, options, quantity):
    """As a run counts it, which also checks the output's shape."""
    return counts(name, suite, json.dumps(options))[COST[quantity]].value


@functools.cache
def counts(name, suite, options):
    arguments, inputs = CASES[suite]
    return count(partial(factory(name), **{**arguments, **json.loads(options)}), arguments["out_channels"], inputs)[0]


def check(name, suite, quantity, base="plain"):
    target = counted(base, suite, {}, quantity)
    match = match_width(factory(name), *CASES[suite], quantity, target)
    assert match.within and match.reason == ""
    value = counted(name, suite, match.options, quantity)
    assert value == match.value
    assert abs(value / target - 1) <= 0.02
    assert match.error == pytest.approx(value / target - 1)
    if abs(counted(name, suite, {}, quantity) / target - 1) <= 0.02:
        assert match.options == {}                     # it keeps its size, so its runs are not made again
    return match


@pytest.mark.parametrize("name", variants.names())
def test_every_variant_has_as_many_parameters_as_plain(name):
    check(name, "segmentation", "params")


@pytest.mark.parametrize("name", ["cross_attention", "dit", "fcn", "mobile", "no_skip", "unetpp", "uvit"])
def test_variants_of_every_kind_cost_what_plain_does_with_time_and_context(name):
    check(name, "generation", "macs")


def test_any_variant_may_be_the_base():
    match = check("plain", "segmentation", "params", base="unetpp")
    assert match.value > measured(factory("plain"), *CASES["segmentation"], "params")


def test_levels_keep_their_proportions_and_suit_norm_and_heads():
    match = check("residual", "segmentation", "macs", base="cross_attention")
    channels = match.options["channels"]
    assert all(one % 4 == 0 for one in channels)
    scale = sum(channels) / sum((16, 32, 64, 128))
    assert all(abs(one - scale * own) <= 4 * 1.5 for one, own in zip(channels, (16, 32, 64, 128)))


def test_a_match_survives_json():
    match = check("dit", "generation", "params")
    assert match.options                               # or the round trip would show little
    assert Match.model_validate_json(match.model_dump_json()) == match
    assert json.loads(json.dumps(match.options)) == match.options


def test_own_options_stay_and_shared_width_is_replaced():
    arguments, inputs = CASES["segmentation"]
    target = measured(factory("plain"), arguments, inputs, "params")
    match = match_width(factory("plain"), {**arguments, "width": 40, "block": "residual"}, inputs, "params", target)
    assert match.within and len(match.options["channels"]) == 4
    build = partial(factory("plain"), **{**arguments, "width": 40, "block": "residual", **match.options})
    built = count(build, arguments["out_channels"], inputs)[0]
    assert built["parameters"].value == match.value


def test_too_large_at_its_smallest():
    arguments, inputs = CASES["segmentation"]
    match = match_width(factory("unetpp"), arguments, inputs, "params", 200)
    assert not match.within and match.error > 0.02
    assert "smallest" in match.reason and "\n" not in match.reason
    assert all(one >= 4 for one in match.options["channels"])


def test_no_width_reaches_the_target():
    arguments, inputs = CASES["segmentation"]
    match = match_width(factory("fcn"), {**arguments, "width": 4}, inputs, "params", 1e12)
    assert not match.within and match.error < -0.02 and "64 times as wide" in match.reason


def by_width(*, in_channels, out_channels, image_size, width=4, **_):
    return nn.Sequential(nn.Conv2d(in_channels, width, 1), nn.Conv2d(width, width, 1),
                         nn.Conv2d(width, out_channels, 1))


def test_a_network_from_outside_is_sized_by_whole_channels():
    expected = sum(p.numel() for p in by_width(**OUTSIDE, width=57).parameters())
    match = match_width(by_width, OUTSIDE, IMAGE, "params", expected)
    assert match.options == {"width": 57} and match.value == expected


def test_whole_channels_that_are_too_coarse_say_so():
    between = (4 ** 2 + 5 ** 2) / 2 + 6.5 * 4.5 + 2
    match = match_width(by_width, OUTSIDE, IMAGE, "params", between)
    assert not match.within and match.options in ({}, {"width": 5})
    assert "no finer size" in match.reason and "width=5" in match.reason


def test_a_network_whose_width_must_divide():
    def build(*, width=8, **arguments):
        if width % 6:
            raise ValueError(f"6 heads do not divide {width} channels")
        return by_width(width=width, **arguments)

    target = sum(p.numel() for p in by_width(**OUTSIDE, width=42).parameters())
    assert match_width(build, {**OUTSIDE, "width": 12}, IMAGE, "params", target).options == {"width": 42}


def test_a_network_that_takes_one_size_only():
    def build(*, width=8, **arguments):
        if width != 8:
            raise ValueError(f"nothing but 8 channels will do, not {width}")
        return by_width(width=width, **arguments)

    match = match_width(build, OUTSIDE, IMAGE, "macs", 10 ** 6)
    assert not match.within and "nothing but 8 channels" in match.reason and match.options == {}


def test_a_network_without_a_width():
    def fixed(*, in_channels, out_channels, image_size):
        return nn.Conv2d(in_channels, out_channels, 1)

    match = match_width(fixed, OUTSIDE, IMAGE, "params", 1000)
    assert not match.within and match.value == 8 and "takes no width" in match.reason


def test_a_width_that_does_nothing():
    def fixed(*, in_channels, out_channels, image_size, width=8):
        return nn.Conv2d(in_channels, out_channels, 1)

    match = match_width(fixed, OUTSIDE, IMAGE, "params", 1000)
    assert not match.within and match.reason == "its parameters do not depend on width"


def test_a_network_that_cannot_be_built():
    def broken(**arguments):
        raise ValueError("no such thing")

    match = match_width(broken, OUTSIDE, IMAGE, "params", 1000)
    assert not match.within and match.value is None and match.error is None and "no such thing" in match.reason


def test_sizes_that_a_wrapper_does_not_hand_on_are_not_used():
    def wrapper(*, in_channels, out_channels, image_size, width=8):
        return factory("plain")(in_channels=in_channels, out_channels=out_channels, image_size=image_size, width=width)

    target = measured(factory("plain"), {**OUTSIDE, "width": 21}, IMAGE, "params")
    assert match_width(wrapper, OUTSIDE, IMAGE, "params", target).options == {"width": 21}


def test_a_network_of_ones_own_may_say_its_sizes():
    def build(*, in_channels, out_channels, image_size, units=12, ratio=1.0, width=None):
        hidden = int(units * ratio)
        model = nn.Sequential(nn.Conv2d(in_channels, units, 1), nn.Conv2d(units, hidden, 1),
                              nn.Conv2d(hidden, out_channels, 1))
        model.sizes = {"units": Scaled(units, 12), "ratio": Fine(ratio, 0.5, 1.5)}
        return model

    match = match_width(build, OUTSIDE, IMAGE, "params", 5000)
    assert match.within and match.options["units"] % 12 == 0 and 0.5 <= match.options["ratio"] <= 1.5


def test_latency_is_measured_again_and_says_how_it_varies():
    arguments = {**OUTSIDE, "width": 4}
    inputs = (torch.zeros(2, 3, 8, 8),)
    target = measured(factory("plain"), arguments, inputs, "latency")
    assert target > 0
    match = match_width(factory("no_skip"), arguments, inputs, "latency", target, tolerance=10.0)
    assert match.within and match.options == {} and match.noise >= 0 and match.tried == 2
    match = match_width(factory("no_skip"), arguments, inputs, "latency", target / 1000)
    assert not match.within and "smallest" in match.reason


@pytest.mark.parametrize("size, step, near", [(17, 4, 16), (128, 4, 128), (133, 8, 136), (300, 16, 304), (1, 4, 4)])
def test_steps_of_channels_grow_with_them(size, step, near):
    scaled = Scaled(size, 4)
    assert (scaled.step(size), scaled.near(size)) == (step, near)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(InputError, match="did you mean 'params'"):
        match_width(by_width, OUTSIDE, IMAGE, "param", 10)
    with pytest.raises(ValueError, match="positive"):
        match_width(by_width, OUTSIDE, IMAGE, "params", 0)


def test_a_report_need_not_wait_for_torch():
    code = "import sys, harness.ablation.matching; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_page_names_what_is_met_and_what_is_not():
    arguments, inputs = CASES["generation"]
    target = measured(factory("plain"), arguments, inputs, "params")
    met = match_width(factory("no_skip"), arguments, inputs, "params", target)
    missed = match_width(factory("dit"), arguments, inputs, "params", 10)
    rows = [matching_page.line("generation", "no_skip", met, met), matching_page.line("generation", "dit", missed, met),
            {**matching_page.line("generation", "no_skip", met, met), "quantity": "macs"}]
    text = matching_page.page([("generation", rows)])
    assert "**2 of 3**" in text and f"| {met.value:,} |" in text
    assert "| dit |" in text and "not met: at the smallest that it can be" in text
