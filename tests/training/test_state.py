"""Checkpoints on disk: whole or passed over, of this run or not used."""

import errno
import hashlib
import json

import pytest
import torch
from torch import nn

from harness.training import state as state_module
from harness.training.state import Checkpoints, TrainState


def make_state(step=0, seed=0):
    torch.manual_seed(seed)
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    return TrainState(model, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0), step=step)


@pytest.fixture
def saved(tmp_path):
    """saved(said): checkpoints of steps 10, 20 and 30 in a folder, of which two are kept."""
    said = []
    checkpoints = Checkpoints(tmp_path / "run", "mine", every_s=60.0, say=said.append)
    for step in (10, 20, 30):
        checkpoints.save(make_state(step, seed=step))
    assert not said and {path.name for path in checkpoints.folder.iterdir()} == {
        "000000020.pt", "000000020.json", "000000030.pt", "000000030.json"}
    checkpoints.heard = said
    return checkpoints


def test_the_newest_is_taken_up(saved):
    state = make_state()
    assert saved.restore(state) and state.step == 30 and saved.heard == []
    assert torch.equal(state.model.weight, make_state(seed=30).model.weight)


@pytest.mark.parametrize("damage", [
    lambda path: path.write_bytes(path.read_bytes()[:100]), lambda path: path.unlink(),
    lambda path: path.write_bytes(b""),
    lambda path: path.with_suffix(".json").write_text("{"), lambda path: path.with_suffix(".json").write_text("[]")],
    ids=["cut", "gone", "empty", "half a note", "another note"])
def test_a_torn_one_is_passed_over_for_the_one_before(saved, damage):
    damage(saved.folder / "000000030.pt")
    state = make_state()
    assert saved.restore(state) and state.step == 20
    assert len(saved.heard) == 1 and "000000030 is damaged" in saved.heard[0]


def test_a_changed_byte_is_seen(saved):
    path = saved.folder / "000000030.pt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    state = make_state()
    assert saved.restore(state) and state.step == 20


def test_one_of_other_code_or_data_is_not_used_and_said(saved):
    other = Checkpoints(saved.folder, "another", say=saved.heard.append)
    assert not other.restore(make_state())
    assert "other code or data" in saved.heard[0] and not saved.folder.exists()


def test_nothing_there_is_no_checkpoint(tmp_path):
    assert not Checkpoints(tmp_path / "none", "mine").restore(make_state())


def test_a_full_disk_is_said_and_leaves_no_half_file(saved, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(state_module.torch, "save", full)
    saved.save(make_state(40))
    assert "no checkpoint at step 40" in saved.heard[0] and "No space left" in saved.heard[0]
    assert {path.suffix for path in saved.folder.iterdir()} == {".pt", ".json"} and saved.restore(make_state())


def test_when_it_is_time(monkeypatch, tmp_path):
    now = [100.0]
    monkeypatch.setattr(state_module.time, "monotonic", lambda: now[0])
    checkpoints, never = Checkpoints(tmp_path, "mine", every_s=60.0), Checkpoints(tmp_path, "mine", every_s=0.0)
    assert not checkpoints.due() and not checkpoints.due(last=True)
    now[0] += 10
    assert not checkpoints.due() and checkpoints.due(last=True)
    now[0] += 60
    assert checkpoints.due() and not never.due() and not never.due(last=True)


def test_only_tensors_and_plain_values_are_read(saved):
    """A pickle that would run something is refused, and the state before it taken."""
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    path = saved.folder / "000000030.pt"
    torch.save({"step": Evil()}, path)
    note = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**note, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}))
    state = make_state()
    assert saved.restore(state) and state.step == 20
