"""Where compiled kernels are kept, and what is said where the compiler fails."""

import os

import pytest
import torch
from torch import nn

from harness.training.compilation import CACHE, compilation


def fails(graph, inputs):
    raise OSError("there is no compiler here\nand a second line")


@pytest.mark.parametrize("before", [None, "elsewhere"])
def test_the_cache_is_set_inside_and_as_before_outside(before, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(CACHE, raising=False)
    if before:
        monkeypatch.setenv(CACHE, before)
    with compilation((tmp_path / "cache").relative_to(tmp_path)) as kernels:
        assert os.environ[CACHE] == str(tmp_path / "cache" / "inductor")       # whole, whoever changes folders
        assert kernels() == "0 of 0 graphs from the cache"
    assert os.environ.get(CACHE) == before


def test_a_compiler_that_fails_is_one_line(tmp_path):
    network = nn.Linear(2, 2)
    network.compile(backend=fails)
    with pytest.raises(RuntimeError) as raised, compilation(tmp_path):
        network(torch.zeros(1, 2))
    text = str(raised.value)
    assert text.startswith("torch.compile: ") and "there is no compiler here" in text and "\n" not in text
    assert "TORCHDYNAMO_VERBOSE" not in text


def test_what_is_not_the_compilers_fault_stays(tmp_path):
    with pytest.raises(ZeroDivisionError), compilation(tmp_path):
        raise ZeroDivisionError
