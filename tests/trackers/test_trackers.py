"""What each tracker wrote, read by its own reader: once for each run, without what is undefined, offline."""

import json
from pathlib import Path

import pytest

from harness.trackers import registry
from harness.tracking import Tracking

NAMES = {"curves/loss", "curves/validation loss", "metrics/fid", "cost/parameters"}     # neither kid nor a point at 30


@pytest.fixture
def track(no_network):
    """track(tracker, out, record): what a command does when the run has ended; no error may be heard."""
    def write(tracker, out, record):
        def hear(spec, **event):
            assert event["stage"] != "note", event

        Tracking((tracker,), out, hear)(record.spec, stage="kept", record=record, name="plain")
        return out / "tracking" / tracker

    return write


def forget(folder):
    """As if the command had been killed after the tracker wrote, and before that was noted."""
    [marker] = (folder / ".written").iterdir()
    marker.unlink()


def test_every_tracker_says_what_it_needs():
    assert {"tensorboard", "mlflow", "wandb"} <= set(registry.names())
    configured = Path(__file__).parents[2].joinpath("pyproject.toml").read_text()
    for name in registry.names():
        assert registry.constant(name, "NEEDS") and all(
            f"\n{extra} = [" in configured for extra in registry.constant(name, "NEEDS").values())


def test_tensorboard(results, track):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (extra track)")
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2
    out, record = results(status="failed", error="out of luck")
    track("tensorboard", out, record)
    out, record = results(minute=5)                # the failed run, made again
    folder = track("tensorboard", out, record)
    cut_short = folder / f".unfinished-plain-{record.run_id}-host-1"
    cut_short.mkdir()
    forget(folder)
    track("tensorboard", out, record)
    assert not cut_short.exists()

    found = EventMultiplexer().AddRunsFromDirectory(str(folder)).Reload()
    [name] = found.Runs()
    assert name == f"plain,_seed_0-{record.run_id}"
    events = found.GetAccumulator(name)
    assert set(events.Tags()["scalars"]) == NAMES and events.Tags()["images"] == ["pictures/samples"]
    loss = events.Scalars("curves/loss")
    assert [(point.step, point.value) for point in loss] == [(10, 0.5), (20, 0.25)]
    assert loss[1].wall_time - loss[0].wall_time == 1.5
    assert events.Scalars("metrics/fid")[0].value == 1.5
    assert (events.Images("pictures/samples")[0].width, events.Images("pictures/samples")[0].height) == (16, 8)
    assert events.Tensors("tags/run_id/text_summary")[0].tensor_proto.string_val == [record.run_id.encode()]
    start = plugin_data_pb2.HParamsPluginData.FromString(
        events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content).session_start_info
    assert start.hparams["train.steps"].number_value == 2000
    assert start.hparams["options.mults"].string_value == "[1, 2]"


def test_mlflow(results, track, monkeypatch):
    pytest.importorskip("mlflow", reason="mlflow is not installed (extra track)")
    from mlflow.tracking import MlflowClient
    out, record = results(status="failed", error="out of luck")
    with monkeypatch.context() as patch:           # killed before the run was ended
        patch.setattr(MlflowClient, "set_terminated", lambda *args, **more: None)
        folder = track("mlflow", out, record)
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    [experiment] = [one.experiment_id for one in client.search_experiments() if one.name == "unet-bench"]
    forget(folder)
    track("mlflow", out, record)
    [failed] = client.search_runs([experiment])
    assert failed.info.status == "FAILED" and failed.data.tags["error"] == "out of luck"

    out, record = results(minute=5)                # the failed run, made again
    track("mlflow", out, record)
    [run] = client.search_runs([experiment])
    assert (run.info.run_name, run.info.status) == ("plain, seed 0", "FINISHED")
    assert run.info.end_time - run.info.start_time == 61500
    assert run.data.tags["run_id"] == record.run_id and run.data.tags["suite"] == "generation"
    assert run.data.params["train.steps"] == "2000" and run.data.params["options.mults"] == "[1, 2]"
    assert set(run.data.metrics) == NAMES and run.data.metrics["metrics/fid"] == 1.5
    loss = client.get_metric_history(run.info.run_id, "curves/loss")
    assert sorted((point.step, point.value) for point in loss) == [(10, 0.5), (20, 0.25)]
    assert [one.path for one in client.list_artifacts(run.info.run_id, "pictures")] == ["pictures/samples.png"]
    assert list((folder / "artifacts").rglob("samples.png"))


def test_mlflow_sends_parts_that_a_server_takes():
    mlflow = pytest.importorskip("harness.trackers.mlflow", reason="mlflow is not installed (extra track)",
                                 exc_type=ImportError)
    assert mlflow._parts(list(range(5)), 2) == [[0, 1], [2, 3], [4]]
    assert mlflow._key("curves/validation Dice (cell, µ)") == "curves/validation Dice _cell_ µ_"


def wandb_records(path):
    """The records in a file of an offline run: a LevelDB log of protocol buffers."""
    from wandb.proto.wandb_internal_pb2 import Record
    data, at, content, block = path.read_bytes(), 7, b"", 32768
    while at + 7 <= len(data):
        if block - at % block < 7:                 # no room for another head
            at += block - at % block
        size, kind = int.from_bytes(data[at + 4:at + 6], "little"), data[at + 6]
        content += data[at + 7:at + 7 + size]
        at += 7 + size
        if kind in (1, 4):                         # whole, or the last part
            yield Record.FromString(content)
            content = b""


def items(message):
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in message}


def test_wandb(results, track, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed (extra track)")
    out, record = results()
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with pytest.raises(AssertionError, match="not written for wandb: WANDB_MODE is disabled"):
        track("wandb", out, record)
    monkeypatch.delenv("WANDB_MODE")
    cut_short = out / "tracking/wandb/wandb" / f"offline-run-20260101_000000-{record.run_id}"
    cut_short.mkdir(parents=True)
    folder = track("wandb", out, record)
    assert not cut_short.exists()
    [file] = folder.rglob("*.wandb")
    found = {}
    for one in wandb_records(file):
        kind = one.WhichOneof("record_type")
        found.setdefault(kind, []).append(getattr(one, kind))
    run = found["run"][0]
    assert (run.run_id, run.display_name, run.project) == (record.run_id, "plain, seed 0", "unet-bench")
    assert set(run.tags) == {"generation", "digits", "quick", "ok"}
    config = items(run.config.update)
    assert config["train.steps"] == 2000 and config["tags"]["run_id"] == record.run_id
    points = [items(history.item) for history in found["history"]]
    assert [(p["_step"], p["curves/loss"], p.get("curves/validation loss")) for p in points] == [
        (10, 0.5, None), (20, 0.25, 0.75)]
    assert any("Drawn digits" in str(value) for value in points[1].values())
    summary = {key: value for update in found["summary"] for key, value in items(update.update).items()}
    assert summary["metrics/fid"] == 1.5 and summary["status"] == "ok" and "metrics/kid" not in summary
    assert list(folder.rglob("media/images/pictures/*.png"))
    assert found["exit"][0].exit_code == 0
