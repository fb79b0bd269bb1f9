"""A run as data: frozen, validated, with an identity that holds exactly what moves numbers."""

import copy
import json
import subprocess
import sys

import pytest
from pydantic import BaseModel, Field, ValidationError

import harness.spec
from harness import suites
from harness.identity.migrations import SCHEMA
from harness.spec import (
    DataSpec,
    RunSpec,
    Seeds,
    TrainSpec,
    canonical_json,
    default_tables,
    different,
    digest,
)


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


@pytest.mark.parametrize("wrong", [dict(colour="red"), dict(train=dict(steps=-1, batch_size=1, learning_rate=1)),
                                   dict(train=dict(steps=1, batch_size=1, learning_rate=1, precision="fp8"))])
def test_wrong_fields_are_refused(wrong):
    with pytest.raises(ValidationError):
        spec(**wrong)


@pytest.mark.parametrize("change", [
    dict(variant="no_skip"), dict(options={"width": 16}), dict(settings={"loss": "dice"}), dict(device="cuda"),
    dict(evaluate_on_test=False), dict(seeds=Seeds(init=1)), dict(seeds=Seeds(data=1)), dict(seeds=Seeds(sampling=1)),
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


ADD = "add it to harness/spec_defaults.json with its default: then it changes no id"
RAISE = ("raise harness.identity.migrations.SCHEMA, write a step there that puts the old default into records that "
         "lack the field, and add a table of that schema to harness/spec_defaults.json; leave the old one as it is")


def defaults_of(model):
    """Default of each field that has one, as JSON; nested models as mappings."""
    values = {name: field.get_default(call_default_factory=True) for name, field in model.model_fields.items()
              if not field.is_required()}
    return {name: value.model_dump(mode="json") if isinstance(value, BaseModel) else json.loads(json.dumps(value))
            for name, value in values.items()}


def problems(model, table, name):
    """What the table of defaults and a model do not agree in, and what to do about it."""
    real = defaults_of(model)
    found = [f"{name}.{field} is not in the table: {ADD}" for field in real.keys() - table.keys()]
    found += [f"{name}.{field} is {real[field]!r}, and {default!r} in the table. A default moves ids: {RAISE}"
              if field in real else f"{name}.{field} has no default any more: {RAISE}"
              for field, default in table.items() if field not in real or canonical_json(real[field])
              != canonical_json(default)]
    free = [field for field, info in model.model_fields.items()
            if isinstance(default := info.get_default(call_default_factory=True), dict) and default]
    return found + [f"{name}.{field}: the default of a mapping that holds anything must be empty" for field in free]


def test_the_table_holds_the_defaults_of_every_spec():
    table = default_tables()[max(default_tables())]
    run = dict(table["run"])
    found = problems(TrainSpec, run.pop("train"), "train") + problems(DataSpec, run.pop("data"), "data")
    found += problems(RunSpec, run, "run")
    for suite, settings in table["settings"].items():
        found += problems(suites.registry.load(suite).Settings, settings, f"settings of {suite}")
    assert not found, "\n".join(found)
    assert max(default_tables()) <= SCHEMA


def test_every_shipped_suite_is_in_the_table():
    assert default_tables()[max(default_tables())]["settings"].keys() == set(suites.registry.names())


class NewTrain(TrainSpec):
    foreach: bool = False


class NewRun(RunSpec):
    train: NewTrain
    restarts: int = 0


@pytest.fixture
def table_with_new_fields(monkeypatch):
    tables = copy.deepcopy(default_tables())
    tables[max(tables)]["run"]["restarts"] = 0
    tables[max(tables)]["run"]["train"]["foreach"] = False
    tables[max(tables)]["settings"]["segmentation"]["folds"] = 1
    monkeypatch.setattr(harness.spec, "default_tables", lambda: tables)


def test_a_new_field_at_its_default_changes_no_id(table_with_new_fields):
    """A record from before and a run of today stand in one group, and the run is not made again."""
    fields = spec().model_dump()
    new = NewRun(**{**fields, "settings": {**fields["settings"], "folds": 1}})
    assert new.train.foreach is False and run_id(new) == run_id(spec()) and new.group_id() == spec().group_id()
    for moved in (dict(restarts=1), dict(train={**fields["train"], "foreach": True}), dict(settings={"folds": 2})):
        assert run_id(NewRun(**{**fields, **moved})) != run_id(spec())
        assert NewRun(**{**fields, **moved}).group_id() != spec().group_id()


def test_a_field_that_is_missing_in_the_table_says_what_to_do():
    (found,) = problems(NewTrain, default_tables()[2]["run"]["train"], "train")
    assert "train.foreach" in found and ADD in found


def test_a_changed_default_cannot_pass_unseen():
    class Changed(TrainSpec):
        max_grad_norm: float = Field(2.0, gt=0)

    (found,) = problems(Changed, default_tables()[2]["run"]["train"], "train")
    assert "train.max_grad_norm is 2.0, and 1.0 in the table" in found and "SCHEMA" in found and "step" in found


def test_a_changed_default_gives_other_ids_and_the_old_ones_can_still_be_computed(monkeypatch):
    """Two runs that leave out different things never share an id."""
    old = run_id(spec(train=TrainSpec(steps=5, batch_size=2, learning_rate=1e-3)))
    tables = {**default_tables(), 3: copy.deepcopy(default_tables()[2])}
    tables[3]["run"]["train"]["max_grad_norm"] = 2.0
    monkeypatch.setattr(harness.spec, "default_tables", lambda: tables)
    new = spec(train=TrainSpec(steps=5, batch_size=2, learning_rate=1e-3, max_grad_norm=2.0))
    assert new.identity()["train"] == spec().identity(schema=2)["train"] and run_id(new) != old
    assert spec().run_id(code="c", data="d", schema=2) == old


def test_identity_holds_only_what_differs_from_a_default():
    assert spec().identity() == {"defaults": 2, "suite": "segmentation", "variant": "plain", "options": {"width": 8},
                                 "data": {"name": "cells"}, "settings": {"loss": "ce"},
                                 "train": {"steps": 5, "batch_size": 2, "learning_rate": 1e-3}}
    one = spec(seeds=Seeds(data=2), settings={"loss": "ce+dice", "overlap": 0.5}, evaluate_on_test=False,
               data=DataSpec(name="cells", options={"seed": 0, "shape": {}}))
    assert one.identity() == {"defaults": 2, "suite": "segmentation", "variant": "plain", "options": {"width": 8},
                              "data": {"name": "cells", "options": {"seed": 0, "shape": {}}}, "evaluate_on_test": False,
                              "settings": {"overlap": 0.5}, "seeds": {"data": 2},
                              "train": {"steps": 5, "batch_size": 2, "learning_rate": 1e-3}}


def test_settings_that_are_left_out_or_given_at_their_default_are_one_run():
    left_out, given = spec(settings={}), spec(settings=default_tables()[1]["settings"]["segmentation"])
    assert run_id(left_out) == run_id(given) and left_out.group_id() == given.group_id()


def test_a_suite_in_no_table_keeps_all_its_settings():
    assert spec(suite="mine", settings={"loss": "ce+dice"}).identity()["settings"] == {"loss": "ce+dice"}


@pytest.mark.parametrize("fields, defaults, kept", [
    ({"a": {"b": 1, "c": {"d": 2, "e": 3}}}, {"a": {"b": 1, "c": {"d": 2, "e": 0}}}, {"a": {"c": {"e": 3}}}),
    ({"a": {"b": 1}}, {"a": {"b": 1}}, {}), ({"a": {}}, {"a": {}}, {}), ({"a": {"x": {}}}, {"a": {}}, {"a": {"x": {}}}),
    ({"a": None}, {}, {"a": None}), ({"a": None}, {"a": None}, {}), ({"a": {"b": 1}}, {"a": None}, {"a": {"b": 1}}),
    ({"a": True, "b": 0}, {"a": 1, "b": False}, {"a": True, "b": 0}), ({"a": 1}, {"a": 1.0}, {}),
    ({"a": [1, 2]}, {"a": [1]}, {"a": [1, 2]})])
def test_nested_defaults_are_left_out(fields, defaults, kept):
    assert different(fields, defaults) == kept


def test_complete_names_what_identity_leaves_out():
    fields = spec(settings={"crop_size": 64}).complete()
    assert fields["train"]["precision"] == "fp32" and fields["settings"] == {
        **default_tables()[2]["settings"]["segmentation"], "crop_size": 64}


def test_reading_ids_needs_neither_torch_nor_suites():
    code = ("import sys; from harness.spec import *; one = RunSpec.model_validate_json(sys.argv[1]); one.group_id(); "
            "assert not {'torch', 'harness.suites', 'variants'} & set(sys.modules)")
    done = subprocess.run([sys.executable, "-c", code, spec().model_dump_json()], capture_output=True, text=True,
                          cwd=harness.spec.Path(harness.spec.__file__).parent.parent)
    assert done.returncode == 0, done.stderr
