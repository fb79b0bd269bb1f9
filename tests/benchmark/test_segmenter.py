import importlib.util

import pytest
import torch

from harness.benchmark import segmenter
from harness.benchmark.contest import OURS, BenchmarkOptions
from harness.benchmark.segmenter import PEERS, nearest_width, run, size

SMALL = {"image_size": 32, "batch_size": 2, "width": 8}
installed = [peer for peer in PEERS if importlib.util.find_spec(peer.module)]


@pytest.mark.parametrize("peer", installed, ids=lambda peer: peer.label)
def test_no_other_width_is_nearer(peer, monkeypatch):
    monkeypatch.setattr(segmenter, "WIDTHS", range(8, 33, 8))
    macs = {width: size(peer.build(width), 32)[1] for width in segmenter.WIDTHS}
    for target in (macs[8] // 2, int(1.1 * macs[16]), 100 * macs[32]):
        nearest = min(macs, key=lambda width: max(macs[width] / target, target / macs[width]))
        assert nearest_width(peer, target, 32) == nearest


@pytest.mark.parametrize("peer", installed, ids=lambda peer: peer.label)
def test_peers_take_what_ours_takes(peer):
    out = peer.build(8).eval()(torch.zeros(2, segmenter.CHANNELS, 32, 32))
    assert out.shape == (2, segmenter.CLASSES, 32, 32)


def test_a_small_contest(tmp_path):
    found = run(BenchmarkOptions("cpu", "fp32", rounds=2, cache=tmp_path), **SMALL)
    [trial] = found.trials
    assert list(trial.contestants) == [OURS, *(f"{peer.label}, fp32" for peer in installed)]
    ours = trial.contestants[OURS]
    for comparison in trial.comparisons:
        theirs = trial.contestants[comparison.other]
        assert comparison.per_mac and comparison.n == 2
        ratios = [(b / theirs.macs) / (a / ours.macs) for a, b in zip(ours.seconds, theirs.seconds)]
        assert min(ratios) <= comparison.value <= max(ratios)


def test_a_peer_that_is_not_installed_is_named_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if "segmentation" in name else object())
    found = run(BenchmarkOptions("cpu", "fp32", rounds=1, cache=tmp_path), **SMALL)
    [line] = found.absent
    assert "smp Unet" in line and "segmentation_models_pytorch" in line and ".[peers]" in line
    assert {one.other for one in found.trials[0].comparisons} == {"MONAI BasicUNet, fp32", "MONAI UNet, fp32"}


def test_where_none_is_installed_there_is_nothing_to_time(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = run(BenchmarkOptions("cpu", "fp32", rounds=1, cache=tmp_path), **SMALL)
    assert len(found.absent) == len(PEERS) and not found.trials
