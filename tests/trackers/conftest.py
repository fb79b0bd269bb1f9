"""A run as it lies in a results folder: two curves with an undefined point each, an undefined metric, a picture."""

import math

import pytest
import synthetic_records as synthetic
from PIL import Image

from harness.record import Picture, write_record

CURVES = "step,seconds,name,value\n10,1.5,loss,0.5\n20,3,loss,0.25\n20,3,validation loss,0.75\n30,4,loss,nan\n"


@pytest.fixture
def results(tmp_path):
    """results(**changes) -> (out, record) of a run in out/runs; a second call makes the run again."""
    out = tmp_path / "out"

    def make(*, curves=CURVES, status="ok", **changes):
        spec = synthetic.make_spec(options={"width": 16, "mults": [1, 2]}, **changes.pop("spec", {}))
        record = synthetic.make_record(
            spec, status=status, pictures={"samples.png": Picture(rows=1, columns=2, caption="Drawn digits")},
            metrics={"fid": synthetic.metric(1.5), "kid": synthetic.metric(math.nan)} if status == "ok" else {},
            cost={"parameters": synthetic.metric(1000.0, "Parameters")}, **changes)
        folder = out / "runs" / record.run_id
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "curves.csv").write_text(curves)
        Image.new("L", (16, 8), 200).save(folder / "samples.png")
        write_record(folder, record)
        return out, record

    return make


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
