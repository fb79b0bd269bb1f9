"""The largest batch or image that fits into a memory: the next one does not."""

from types import SimpleNamespace

import pytest
from command_line import bench, refused

from harness.errors import InputError
from harness.inspection import fit as fitting
from harness.inspection.fit import fit, largest, parse_bytes, shown_bytes
from harness.measurement.network import subject


@pytest.mark.parametrize("text, size", [("24GB", 24 * 10 ** 9), ("1.5 GiB", 3 * 2 ** 29), ("100b", 100),
                                        ("8 mb", 8 * 10 ** 6)])
def test_units(text, size):
    assert parse_bytes(text) == size


def test_shown_bytes():
    assert shown_bytes(999) == "999 B" and shown_bytes(1_500_000) == "1.50 MB" and shown_bytes(10 ** 12) == "1.00 TB"
    assert shown_bytes(999_999_999) == "1.00 GB"


@pytest.mark.parametrize("shape", [lambda n: 7 + 3 * n, lambda n: n * n, lambda n: 2 ** min(n, 60),
                                   lambda n: 10 * (n // 7)])
@pytest.mark.parametrize("limit", [10, 100, 12_345, 10 ** 7])
def test_the_search_finds_the_last_that_fits(shape, limit):
    class Cost:
        def __init__(self, n):
            self.total = shape(n)

    found = largest(Cost, limit, 1, 10 ** 5)
    expected = max(n for n in range(1, 10 ** 5 + 1) if shape(n) <= limit)
    assert found == expected


def test_the_search_for_an_image_looks_few_times():
    """A look at a large network takes seconds, and its memory grows with the pixels."""
    looks = []

    def cost(n):
        looks.append(n)
        return SimpleNamespace(total=7 * (8 + 3 * n) ** 2)

    assert largest(cost, 7 * (8 + 3 * 345) ** 2, 0, 5000, lambda n: (8 + 3 * n) ** 2) == 345
    assert len(looks) <= 6


def test_a_preset_is_built_once():
    own = subject("ddpm_cifar10_pesser")
    other = fitting.at_side(own, {}, 48)
    assert other.network is own.network and other.inputs[0].shape[2:] == (48, 48) and own.inputs[0].shape[2] == 32


def test_the_batch_fits_and_one_more_does_not():
    small = {"width": 4, "channel_mult": [1, 2]}
    batch, side, needs = fit("plain", 50 * 10 ** 6, size=32, changes=small, training=True)
    assert side == 32 and needs.total <= 50 * 10 ** 6
    more = fitting.estimate(subject("plain", 32, small), batch + 1, training=True)
    assert more.total > 50 * 10 ** 6


def test_the_image_fits_and_the_next_does_not(halving):
    halving = halving()
    assert fitting.sides(subject(halving), {}) == (1, 1)       # odd sides are padded
    batch, side, needs = fit(halving, 20 * 10 ** 6, batch=4, training=False)
    assert batch == 4 and needs.total <= 20 * 10 ** 6
    assert fitting.estimate(subject(halving, side + 2), 4, training=False).total > 20 * 10 ** 6


def test_one_size_only(halving):
    with pytest.raises(InputError, match="takes images of 64 x 64 pixels only"):
        fit(halving(only=64), 10 ** 9, batch=4, training=False)


def test_on_the_command_line(halving):
    done = bench("inspect", halving(), "--memory", "300MB", "--size", 32, "--ema")
    assert done.exit_code == 0, done.output
    assert all(words in done.output for words in ("batch ", "activations saved", "optimiser", "averaged weights"))
    done = bench("inspect", halving(), "--memory", "50MB", "--inference", "--batch", 2)
    assert done.exit_code == 0 and "optimiser" not in done.output and "in batches of 2" in done.output
    assert "a CPU's operators" not in done.output and "target" not in done.output
    done = bench("inspect", halving(), "--memory", "50MB", "--size", 32, "--precision", "bf16", "--device", "cpu")
    assert done.exit_code == 0 and "a CPU's operators" in done.output


@pytest.mark.parametrize("args, words", [
    (("plain", "--memory", "24XB"), ("unknown unit of memory 'XB'",)),
    (("plain", "--memory", "lots"), ("--memory lots", "24GB")),
    (("plain", "--memory", "0GB"), ("--memory 0GB",)),
    (("plain", "--memory", "24"), ("--memory 24", "e.g. 24GB")),
    (("plain", "--memory", "1GB", "--inference", "--ema"), ("--ema", "leave it out")),
    (("plain", "--memory", "1GB", "--device", "tpu"), ("device 'tpu'", "--device cpu")),
    (("plain", "--memory", "1MB"), ("plain does not fit into 1.00 MB", "its parameters alone take 8.16 MB")),
    (("plain", "--memory", "20MB"), ("optimiser's state take 24.48 MB",)),
    (("plain", "--memory", "26MB"), ("one image of 64 x 64 pixels takes",)),
    (("plain", "--memory", "1GB", "--precision", "fp31"), ("did you mean 'fp32'",)),
    (("plian", "--memory", "1GB"), ("did you mean 'plain'",)),
    (("plain", "--memory", "1GB", "--size", "32", "--batch", "2"), ("not both",)),
    (("plain", "--memory", "1GB", "--set", "widht=3"), ("plain", "widht")),
    (("plain", "--memory", "1GB", "--json"), ("--json does not go with --memory",)),
    (("plain", "--ema"), ("--ema goes with --memory",)),
])
def test_what_it_refuses(args, words):
    refused(bench("inspect", *args), *words)
