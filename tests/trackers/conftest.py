"""A run as it lies in a results folder, and what a command does with it for a tracker, offline."""

import pytest
from synthetic_runs import write_small_run

from harness.tracking import Tracking


@pytest.fixture
def results(tmp_path):
    """results(**changes) -> (out, record) of a run in out/runs; a second call makes the run again."""
    return lambda **changes: write_small_run(tmp_path / "out", **changes)


@pytest.fixture
def forget():
    """forget(folder): as if the command had been killed after the tracker wrote, and before that was noted."""
    def remove_marker(folder):
        [marker] = (folder / ".written").iterdir()
        marker.unlink()

    return remove_marker


@pytest.fixture
def track(no_network):
    """track(tracker, out, record): what a command does when the run has ended; no error may be heard."""
    def write(tracker, out, record):
        def hear(spec, **event):
            assert event["stage"] != "note", event

        Tracking((tracker,), out, hear)(record.spec, stage="kept", record=record, name="plain")
        return out / "tracking" / tracker

    return write


@pytest.fixture
def no_network(monkeypatch):
    """Fail where this process connects to anything; and what other programs would send goes to a proxy that is not
    there, so that they would fail, too."""
    import socket

    def refuse(self, address):
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "localhost", "::1"):
            raise AssertionError(f"connection to {address}")
        return connect(self, address)

    connect = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", refuse)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_MODE", "WANDB_PROJECT", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
