"""A run as data: frozen, validated, with an identity that holds exactly what moves numbers."""

import pytest
from pydantic import ValidationError

from harness.spec import DataSpec, RunSpec, Seeds, TrainSpec, canonical_json, digest


def spec(**changes):
    fields = dict(suite="segmentation", variant="plain", options={"width": 8},
                  data=DataSpec(name="cells", root="/a/b/isbi"),
                  train=TrainSpec(steps=5, batch_size=2, learning_rate=1e-3), settings={"loss": "ce"})
    return RunSpec(**{**fields, **changes})


def run_id(one, code="c", data="d"):
    return one.run_id(code=code, data=data)


def test_survives_json():
    assert RunSpec.model_validate_json(spec().model_dump_json()) == spec()


def test_is_frozen():
    with pytest.raises(ValidationError):
        spec().suite = "generation"


@pytest.mark.parametrize("wrong", [dict(colour="red"), dict(train=dict(steps=0, batch_size=1, learning_rate=1)),
                                   dict(train=dict(steps=1, batch_size=1, learning_rate=1, precision="fp8"))])
def test_wrong_fields_are_refused(wrong):
    with pytest.raises(ValidationError):
        spec(**wrong)


@pytest.mark.parametrize("change", [
    dict(variant="no_skip"), dict(options={"width": 16}), dict(settings={"loss": "dice"}), dict(device="cuda"),
    dict(judged=False), dict(seeds=Seeds(init=1)), dict(seeds=Seeds(data=1)), dict(seeds=Seeds(sampling=1)),
    dict(data=DataSpec(name="cells", options={"seed": 1})),
    dict(train=TrainSpec(steps=6, batch_size=2, learning_rate=1e-3)),
    dict(train=TrainSpec(steps=5, batch_size=2, learning_rate=1e-3, precision="bf16"))])
def test_id_follows_what_moves_numbers(change):
    assert run_id(spec(**change)) != run_id(spec())


@pytest.mark.parametrize("change", [dict(profile="mine"), dict(data=DataSpec(name="cells", root="/elsewhere")),
                                    dict(data=DataSpec(name="cells", root="/a/b/isbi", download=True))])
def test_id_ignores_what_does_not(change):
    assert run_id(spec(**change)) == run_id(spec())


def test_id_follows_code_and_data():
    assert len({run_id(spec()), run_id(spec(), code="x"), run_id(spec(), data="x")}) == 3


def test_group_holds_arms_and_seeds_together():
    assert spec().group_id() == spec(variant="dit", options={}, seeds=Seeds(init=3)).group_id()
    assert spec().group_id() != spec(settings={"loss": "dice"}).group_id()


def test_portable_spec_has_no_path_of_this_machine():
    assert spec().portable().data.root == "isbi"
    assert spec(profile="/a/b/mine.yaml").portable().profile == "mine.yaml"
    assert spec(profile="results/mine.yaml").portable().profile == "results/mine.yaml"
    assert run_id(spec().portable()) == run_id(spec())


def test_digest_does_not_depend_on_order_and_refuses_nan():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    with pytest.raises(ValueError):
        canonical_json(float("nan"))
