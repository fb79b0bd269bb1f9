"""Records: whole or not at all, NaN kept as NaN, the bad one named and left alone."""

import json
import math
import re

import pytest

from harness.identity import migrations
from harness.record import (
    Metric,
    Record,
    atomic_directory,
    capture_environment,
    read_record,
    read_records,
    write_record,
)
from harness.spec import DataSpec, RunSpec, TrainSpec


def metric(value=0.5, **changes):
    return Metric(**{**dict(value=value, label="Dice", unit="", direction="higher", n=3), **changes})


def record(run_id="a" * 16, started="2026-01-01T00:00:00+00:00", **changes):
    spec = RunSpec(suite="segmentation", variant="plain", data=DataSpec(name="cells"),
                   train=TrainSpec(steps=1, batch_size=1, learning_rate=1e-3))
    return Record(run_id=run_id, spec=spec, status="ok", started=started, duration_s=1.0, code="c",
                  **{**dict(metrics={"dice_macro": metric()}), **changes})


def save(runs, one):
    with atomic_directory(runs, one.run_id) as folder:
        write_record(folder, one)
    return runs / one.run_id


def test_comes_back_as_it_was(tmp_path):
    one = record(metrics={"dice_macro": metric(), "hd95": metric(math.nan, undefined=3)})
    back = read_record(save(tmp_path, one))
    assert back.metrics["dice_macro"] == one.metrics["dice_macro"]
    assert math.isnan(back.metrics["hd95"].value) and back.metrics["hd95"].undefined == 3
    assert list(back.metrics) == ["dice_macro", "hd95"]


def test_json_is_strict_and_undefined_is_null(tmp_path):
    text = (save(tmp_path, record(metrics={"fid": metric(math.inf)})) / "record.json").read_text()
    content = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert content["metrics"]["fid"]["value"] is None
    assert content["schema"] == migrations.SCHEMA == 2


def test_fingerprint_follows_protocol_not_value():
    assert metric(0.1).fingerprint == metric(0.9, n=7).fingerprint
    assert metric(protocol={"n": 1}).fingerprint != metric().fingerprint
    assert metric(label="FID (inception)").fingerprint != metric(label="FID (digits-cnn)").fingerprint


def test_nothing_is_left_of_a_run_that_broke_off(tmp_path):
    with pytest.raises(RuntimeError), atomic_directory(tmp_path, "abc") as folder:
        (folder / "half").touch()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_broken_rerun_leaves_the_old_run(tmp_path):
    folder = save(tmp_path, record())
    with pytest.raises(RuntimeError), atomic_directory(tmp_path, folder.name):
        raise RuntimeError
    assert read_record(folder).status == "ok"


def test_unfinished_runs_are_not_read(tmp_path):
    save(tmp_path, record())
    (tmp_path / ".unfinished-x-host-1").mkdir()
    assert len(read_records(tmp_path)[0]) == 1


@pytest.mark.parametrize("content, says", [
    ("{", "Invalid JSON"), ("{}", "Field required"), ("", "Invalid JSON"), (None, "No such file"),
    (b"\xff\xfe\x00", "unreadable record|Invalid JSON"),
    (json.dumps({"schema": 1, "run_id": 3}), "run_id")])
def test_corrupt_record_is_named_and_the_rest_still_read(tmp_path, content, says):
    save(tmp_path, record())
    bad = tmp_path / "bad"
    bad.mkdir()
    if content is not None:
        (bad / "record.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    records, problems = read_records(tmp_path)
    assert [r.run_id for r in records] == ["a" * 16]
    assert len(problems) == 1 and str(bad / "record.json") in problems[0] and "\n" not in problems[0]
    with pytest.raises(ValueError, match=says):
        read_record(bad)


@pytest.mark.parametrize("place, value, says", [
    (("data", "classes"), 5, "data: .*classes"), (("data", "splits"), [3], "data: .*splits"),
    (("env", "memory_bytes"), "much", "env: .*memory_bytes"), (("env", "packages"), None, "env: .*packages"),
    (("metrics", "dice_macro", "protocol"), {"classes": 3}, "protocol: .*classes"),
    (("metrics", "dice_macro", "protocol"), {"sigma": math.nan}, "NaN is no number"),
    (("spec", "options"), {"width": -math.inf}, "-Infinity is no number"),
    (("pictures",), {"a.png": {"rows": -1, "columns": 2, "caption": ""}}, "rows: Input should be greater than 0")])
def test_a_record_whose_parts_have_another_form_is_named(tmp_path, place, value, says):
    save(tmp_path, record("b" * 16))
    path = tmp_path / ("b" * 16) / "record.json"
    content = part = json.loads(path.read_text())
    for key in place[:-1]:
        part = part.setdefault(key, {})
    part[place[-1]] = value
    path.write_text(json.dumps(content))
    records, [problem] = read_records(tmp_path)
    assert not records and re.search(says, problem) and str(path) in problem and "\n" not in problem


def test_other_schema_is_named(tmp_path):
    folder = save(tmp_path, record())
    content = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps({**content, "schema": 99}))
    with pytest.raises(ValueError, match="schema 99; this version reads 2"):
        read_record(folder)


@pytest.fixture
def older(tmp_path, monkeypatch):
    """A record as schema 0 might have had it, and the step that brings it to schema 1."""
    def step(content):
        content["duration_s"] = content.pop("minutes") * 60
        return content

    monkeypatch.setitem(migrations.MIGRATIONS, 0, step)
    folder = save(tmp_path, record())
    content = json.loads((folder / "record.json").read_text())
    del content["duration_s"]
    (folder / "record.json").write_text(json.dumps({**content, "schema": 0, "minutes": 1.5}))
    return folder


def test_an_older_record_is_brought_up_to_date_and_its_file_left_alone(older):
    before = (older / "record.json").read_bytes()
    assert read_record(older) == record().model_copy(update={"duration_s": 90.0})
    assert (older / "record.json").read_bytes() == before


def test_steps_follow_each_other(monkeypatch):
    monkeypatch.setitem(migrations.MIGRATIONS, 0, lambda content: {**content, "path": "0"})
    monkeypatch.setitem(migrations.MIGRATIONS, 1, lambda content: {**content, "path": content["path"] + "1"})
    assert migrations.migrated({"schema": 0}, 2) == {"schema": 2, "path": "01"}
    assert migrations.migrated({"schema": 1, "path": "x"}, 2) == {"schema": 2, "path": "x1"}


def test_a_record_of_schema_1_has_its_names_of_today_and_its_id(tmp_path):
    """``judged`` and ``floor`` of before, and an id over the names of before."""
    trial = record().spec.model_copy(update={"evaluate_on_test": False})
    assert trial.identity(schema=1)["judged"] is False and "evaluate_on_test" not in trial.identity(schema=1)
    content = json.loads(record().model_copy(update={"spec": trial}).model_dump_json(by_alias=True))
    content["schema"], content["spec"]["judged"] = 1, content["spec"].pop("evaluate_on_test")
    for metric in content["metrics"].values():
        metric["floor"] = metric.pop("real_data_reference")
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "record.json").write_text(json.dumps(content))
    found = read_record(folder)
    assert found.spec == trial and found.metrics == record().metrics


@pytest.mark.parametrize("change, says", [
    ({"schema": -1}, "schema -1;.* reads 2 .*-1 to 0.*abc"),
    ({"schema": 3}, "schema 3; .* reads 2: .*newer"),
    ({"schema": "1"}, "schema: '1' "), ({"schema": True}, "schema: True "),
    ({"schema": 0}, "schema 0 to 1: .*'minutes'")])
def test_a_record_of_an_unknown_schema_is_named_and_the_rest_still_read(older, change, says):
    content = json.loads((older / "record.json").read_text())
    del content["minutes"]
    bad = older.parent / "bad"
    bad.mkdir()
    (bad / "record.json").write_text(json.dumps({**content, "env": {"git": "abc"}, **change}))
    records, (problem,) = read_records(older.parent)
    assert len(records) == 1 and f"record {bad / 'record.json'} " in problem and "\n" not in problem
    with pytest.raises(ValueError, match=says):
        read_record(bad)


def test_a_record_from_before_a_field_with_a_default_still_reads(tmp_path):
    folder = save(tmp_path, record())
    content = json.loads((folder / "record.json").read_text())
    assert content["spec"].pop("evaluate_on_test") is True
    (folder / "record.json").write_text(json.dumps(content))
    assert read_record(folder) == record()


def test_what_records_say_alike_is_kept_once_and_a_changed_copy_is_another(tmp_path):
    for run_id in ("a" * 16, "b" * 16):
        save(tmp_path, record(run_id, metrics={"dice": metric(protocol={"classes": [1, 2]})}, env={"cores": 2}))
    (one, other), _ = read_records(tmp_path)
    assert one.metrics["dice"].protocol is other.metrics["dice"].protocol and one.env is other.env
    assert one.metrics["dice"].fingerprint == metric(protocol={"classes": [1, 2]}).fingerprint
    changed = one.metrics["dice"].model_copy(update={"protocol": {"classes": [1]}})
    assert changed.fingerprint == metric(protocol={"classes": [1]}).fingerprint != one.metrics["dice"].fingerprint
    assert one.metrics["dice"].model_copy(update={"unit": "px"}).fingerprint != one.metrics["dice"].fingerprint


def test_oldest_first(tmp_path):
    save(tmp_path, record("b" * 16, started="2026-01-02T00:00:00+00:00"))
    save(tmp_path, record("c" * 16, started="2026-01-01T00:00:00+00:00"))
    assert [r.run_id[0] for r in read_records(tmp_path)[0]] == ["c", "b"]


@pytest.mark.parametrize("escape", [True, False], ids=["as an escape", "as it is written here"])
def test_half_characters_are_read_and_written_as_escapes(tmp_path, escape):
    """As names of files hold them that are not UTF-8: no page, terminal or file takes them."""
    one = record(error="caf\udce9", cost={"macs": metric(protocol={"file \ud800": "\ud83d\ude00"})},
                 data={"classes": ["\udce9"]})
    save(tmp_path, one)
    if escape:                                         # as json.dumps of a name writes it
        content = json.dumps(one.model_dump(by_alias=True))
        (tmp_path / one.run_id / "record.json").write_text(content)
    [found], problems = read_records(tmp_path)
    assert not problems and found.error == r"caf\udce9" and found.data["classes"] == [r"\udce9"]
    found.model_dump_json()
    assert list(found.cost["macs"].protocol) == [r"file \ud800"]


def test_environment_names_machine_and_versions():
    env = capture_environment("cpu")
    assert env["cpu"] and env["cores"] >= 1 and env["python"].startswith("3.")
    assert {"torch", "numpy", "diffusers"} <= set(env["packages"])


def test_pictures_of_before_roles_get_them_by_their_names():
    old = {"schema": 1, "data": {"classes": ["0", "1"]}, "pictures": {
        name: {"rows": 1, "columns": 2, "caption": ""}
        for name in ("samples.png", "real.png", "truth.png", "mine.png")}}
    found = migrations.migrated(old)["pictures"]
    assert {name: picture["role"] for name, picture in found.items()} == {
        "samples.png": "output", "real.png": "reference", "truth.png": "truth", "mine.png": ""}
    assert found["samples.png"]["heads"] == ["0", "1"] and found["truth.png"]["heads"] == []
    assert "role" not in old["pictures"]["samples.png"]
    new = {"schema": 2, "pictures": {"samples.png": {"rows": 1, "columns": 2, "caption": "", "role": "input"}}}
    assert migrations.migrated(new)["pictures"] == new["pictures"]
