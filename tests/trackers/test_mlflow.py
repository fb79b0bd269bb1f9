"""What MLflow reads of a run: once, without what is undefined, offline; in requests that a server takes."""

from types import SimpleNamespace

import pytest

from harness.tracking import tracked_run

NAMES = {"curves/loss", "curves/validation loss", "metrics/fid", "cost/parameters"}     # neither kid nor a point at 30


def test_mlflow(results, track, forget, monkeypatch):
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


def test_what_a_server_refuses_is_not_sent(results, monkeypatch, no_network):
    """A request holds so many metrics and parameters at most; names have letters that MLflow takes, all values come."""
    module = pytest.importorskip("harness.trackers.mlflow", reason="mlflow is not installed (extra track)",
                                 exc_type=ImportError)
    sent = {"metrics": [], "params": []}

    class Client:
        def __init__(self, tracking_uri):
            pass

        def log_batch(self, run_id, **parts):
            for kind, items in parts.items():
                sent.setdefault(kind, []).append([(item.key, item.value) for item in items])

        def search_runs(self, *args):
            return []

        def __getattr__(self, name):
            return lambda *args, **more: SimpleNamespace(experiment_id="1", info=SimpleNamespace(run_id="1"))

    out, record = results(curves="step,seconds,name,value\n" + "".join(
        f'{step},1,"validation Dice (cell, µ)",0.5\n' for step in range(1, 4)))
    run = tracked_run(record, out / "runs" / record.run_id, "plain")
    monkeypatch.setattr(module, "MlflowClient", Client)
    monkeypatch.setattr(module, "MOST", (2, 3))
    module.write(run, out)
    assert [len(request) for request in sent["metrics"]] == [2, 2, 1]        # three points, two values
    assert {key for request in sent["metrics"] for key, _ in request} == {
        "curves/validation Dice _cell_ µ_", "metrics/fid", "cost/parameters"}
    assert max(map(len, sent["params"])) == 3
    assert [key for request in sent["params"] for key, _ in request] == list(run.parameters)
