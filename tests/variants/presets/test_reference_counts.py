"""Every counted network of ``tests/reference/counts.json`` against its preset, and the page that shows them all."""

import csv
import functools
from collections import defaultdict

import pytest

from harness.inspection import zoo_page
from harness.measurement.network import subject
from variants import presets

ROWS = zoo_page.reference_rows()


@functools.cache
def built(name):
    """The preset, and which of its parameters are trained: counting freezes them all."""
    known = subject(name)
    return known, [p.requires_grad for p in known.network.parameters()]


@pytest.fixture(autouse=True)
def build_each_preset_once(monkeypatch):
    """Several rows are one preset at several sizes of the image; it lies on the meta device and takes no memory."""
    def again(name):
        known, trained = built(name)
        for parameter, was_trained in zip(known.network.parameters(), trained, strict=True):
            parameter.requires_grad_(was_trained)
        return known

    monkeypatch.setattr(zoo_page, "subject", again)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_parameters_and_macs_are_the_references(row):
    compared = zoo_page.compare(row)
    if compared.preset is None:
        assert compared.why_not != zoo_page.NO_PRESET, f"no preset for {row['name']}, and no reason"
    else:
        assert (compared.parameters, compared.trainable) == (row["params"], row["trainable_params"])
        assert compared.macs == row["macs"]


def test_families_that_say_their_input_say_a_counted_one():
    """``INPUTS`` of a family: preset (None = all of them) -> side, tokens, where its arguments do not say them."""
    rows_of = defaultdict(list)
    for row in ROWS:
        rows_of[zoo_page.preset_of(row["name"])].append(row)
    for name in rows_of.keys() - {None}:
        said = getattr(presets.families.load(presets.family_of(name)), "INPUTS", {})
        if {None, name} & said.keys():
            inputs = built(name)[0].inputs
            assert any([tuple(x.shape) for x in zoo_page.row_inputs(row, inputs) if x is not None]
                       == [tuple(x.shape) for x in inputs if x is not None] for row in rows_of[name]), name


def test_no_reason_is_given_for_what_is_built():
    assert not [row["name"] for row in ROWS if zoo_page.reason(row["name"]) and zoo_page.preset_of(row["name"])]


def test_the_page_is_up_to_date():
    """Generate it again with ``python bench.py page zoo``."""
    with open(zoo_page.PAGE / "counts.csv", newline="") as file:
        lines = {line["network"]: line for line in csv.DictReader(file)}
    text = (zoo_page.PAGE / "README.md").read_text()
    assert lines.keys() == {row["name"] for row in ROWS}
    for row in ROWS:
        line = lines[row["name"]]
        assert line["preset"] == (zoo_page.preset_of(row["name"]) or "")
        assert (int(line["reference_parameters"]), int(line["reference_macs"])) == (row["params"], row["macs"])
        assert row["name"] in text and f"{row['params']:,}" in text


def test_published_figures_are_quoted_as_they_are_given():
    assert zoo_page.published({"published": {"params_M": 130, "gflops": 23.01}}) == "130 M; 23.01 G"
    assert zoo_page.published({"published": {"params": "50M (checkpoint name)"}}) == "50M (checkpoint name)"
    assert zoo_page.published({}) == ""


def test_preset_names():
    assert zoo_page.preset_of("DiT-XL_2") == "dit_xl_2_256"
    assert zoo_page.preset_of("unet_milesial_3to2_bilinear_572") == "unet_milesial_3to2_bilinear"
    assert zoo_page.preset_of("no_such_network_256") is None
    assert all(zoo_page.preset_of(row["name"]) in (None, *presets.names()) for row in ROWS)
