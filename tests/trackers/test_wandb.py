"""What is written of a run for `wandb sync`: once, without what is undefined, offline."""

import json

import pytest


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
