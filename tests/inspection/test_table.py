"""What ``inspect`` says: counts that add up, by hand and for every network; one line for what it cannot show."""

import json

import pytest
import torch
from command_line import bench, refused
from torch import nn

import variants
from harness.errors import InputError
from harness.inspection.table import display_rows, human, share, shown_shapes, suited_depth, totals
from harness.measurement import costs
from harness.measurement.network import layers, parse_changes, subject


class Nested(nn.Module):
    """A matrix product of its own, a child called from outside of its parent, a parameter held twice."""

    def __init__(self):
        super().__init__()
        self.inner = nn.ModuleList([nn.Sequential(nn.Linear(8, 4)), nn.Linear(8, 4)])
        self.inner[1].weight = self.inner[0][0].weight
        self.scale = nn.Parameter(torch.ones(4))
        self.fixed = nn.Parameter(torch.ones(3), requires_grad=False)
        self.unused = nn.Linear(5, 5)

    def forward(self, x):
        a = self.inner[0][0](x)                                                   # past its Sequential
        return (a * self.scale) @ self.inner[1](x).T


def nested():
    with torch.device("meta"):
        return {row.path: row for row in layers(Nested(), (torch.empty(6, 8),))}


def test_by_hand():
    rows = nested()
    linear, product = 6 * 8 * 4, 6 * 4 * 6
    assert rows[""].macs == 2 * linear + product and rows[""].own_macs == product
    assert rows["inner.0.0"].macs == rows["inner.1"].macs == linear
    assert rows["inner.0.0"].output == [[6, 4]] and rows[""].output == [[6, 6]]
    assert rows[""].parameters == 8 * 4 + 4 + 4 + 4 + 3 + 30 and rows[""].trainable == rows[""].parameters - 3
    assert rows["inner.1"].parameters == 4                                        # the weight is the first one's
    assert rows[""].own_parameters == 7
    assert rows["unused"].calls == 0 and rows["unused"].parameters == 30
    assert "inner" not in rows and rows["inner.1"].depth == 1


def test_rows_under_a_row_add_up_to_it_at_any_depth():
    shown = subject("cross_attention", 16, {"context_dim": 4})
    rows = layers(shown.network, shown.inputs)
    for depth in (1, 2, 3, 9):
        at_depth = list(display_rows(rows, depth))
        top = [row for row in at_depth if not row[0].startswith(" ")]
        assert sum(row[3] for row in top) == rows[0].parameters
        assert sum(row[4] for row in top) == rows[0].macs


@pytest.mark.parametrize("name", variants.names())
def test_totals_are_those_of_a_run(name):
    shown = subject(name, 16, {"width": 8, "context_dim": 6})
    rows = layers(shown.network, shown.inputs)
    with torch.device("meta"):
        network = variants.build(name, in_channels=3, out_channels=3, image_size=16, width=8, time=True, context_dim=6)
    assert rows[0].trainable == costs.count_parameters(network).value
    assert rows[0].parameters == sum(p.numel() for p in network.parameters())
    assert rows[0].macs == costs.count_macs(network, *shown.inputs)["macs"].value
    assert sum(row.own_macs for row in rows) == rows[0].macs
    assert sum(row.own_parameters for row in rows) == rows[0].parameters
    assert rows[0].output == [[1, 3, 16, 16]]


def test_a_table_ends_with_its_totals():
    done = bench("inspect", "plain", "--size", 32, "--set", "width=8", "--depth", 1)
    assert done.exit_code == 0, done.output
    assert "image_size=32" in done.output and "width=8" in done.output
    assert "encoder.0" in done.output and "1x8x32x32" in done.output and "parts.0" not in done.output
    last = done.output.splitlines()[-1]
    assert "parameters" in last and "MACs" in last and "FLOPs (= 2 x MACs) at x 1x3x32x32, t 1" in last


def test_json_has_every_module():
    done = bench("inspect", "dit", "--json", "--size", 8, "--set", "depth=2", "--set", "width=8")
    said = json.loads(done.output)
    assert said["kind"] == "variant" and said["inputs"] == [[1, 3, 8, 8], [1], None]
    assert said["output"] == [[1, 3, 8, 8]]
    assert said["flops"] == 2 * said["macs"]
    paths = [module["path"] for module in said["modules"]]
    assert "blocks.1.qkv" in paths and len(paths) == len(set(paths))


def test_a_network_written_elsewhere(halving):
    halving = halving()
    done = bench("inspect", halving, "--size", 10)
    assert done.exit_code == 0 and "ConvTranspose2d" in done.output
    padded = bench("inspect", halving, "--size", 11)
    assert padded.exit_code == 0 and "multiples of 2 pixels" in padded.output
    refused(bench("inspect", halving.replace("Halving", "Absent")), "has no 'Absent'")


@pytest.mark.parametrize("args, words", [
    (("plian",), ("unknown network 'plian'", "did you mean 'plain'")),
    (("DiT-XL/2",), ("did you mean 'dit_xl_2_256'",)),
    (("qqqqqq",), ("unknown network", "variants: ", "plain", "presets: ", "dit")),
    (("absent.py:Net",), ("no file absent.py",)),
    (("plain", "--set", "widht=3"), ("plain", "widht")),
    (("plain", "--set", "width=wide"), ("plain: ",)),
    (("plain", "--svg", "/proc/none/plain.svg"), ("--svg /proc/none/plain.svg",)),
    (("plain", "--set", "width"), ("ARGUMENT=VALUE",)),
    (("plain", "--set", "width=["), ("--set width=[",)),
    (("plain", "--set", "width=2026-99-99"), ("--set width=2026-99-99",)),
    (("plain", "--set", "skip=cut"), ("unknown skip 'cut'",)),
    (("dit_s_2_256", "--size", "31"), ("dit_s_2_256", "31")),
])
def test_what_it_cannot_show(args, words):
    refused(bench("inspect", *args), *words)


BROKEN = {"not Python": "def build(**k)\n", "relative": "from . import parts\n", "raises": "1 / 0\n",
          "exits": "import sys\nsys.exit(0)\n", "no module": "def build(**k):\n    return None\n",
          "raises while building": "def build(**k):\n    raise OSError('no weights here')\n",
          "exits while building": "def build(**k):\n    raise SystemExit(0)\n",
          "exits when called": "import torch\nclass build(torch.nn.Module):\n    def __init__(self, **k):\n"
                               "        super().__init__()\n    def forward(self, *a):\n        raise SystemExit(0)\n"}


@pytest.mark.parametrize("command", ["inspect", "inspect --memory 1GB", "inspect --memory 1GB --batch 1"])
@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_one_line(command, content, tmp_path):
    (tmp_path / "mine.py").write_text(content)
    refused(bench(*command.split(), f"{tmp_path / 'mine.py'}:build"), "mine.py:build")


def test_changes_are_read_as_yaml():
    assert parse_changes(["a=3", "b=[1, 2]", "c=x", "d=false", "e=null"]) == {
        "a": 3, "b": [1, 2], "c": "x", "d": False, "e": None}
    with pytest.raises(InputError):
        parse_changes(["1a=3"])


def test_a_preset_is_shown_at_its_own_input():
    shown = subject("dit_s_8_256")
    assert shown.kind == "preset" and "Peebles" in shown.source
    assert [tuple(x.shape) for x in shown.inputs] == [(1, 4, 32, 32), (1,), (1,)]
    assert all(p.is_meta for p in shown.network.parameters())


def test_words():
    rows = nested()
    assert human(999) == "999" and human(1_234_567) == "1.235 M" and human(2 * 10 ** 12) == "2 T"
    assert share(1, 8) == "12.5%" and share(0, 0) == ""
    assert shown_shapes(rows["unused"]) == "not called"
    rows["inner.1"].output = [[1, 1, 8]] * 6
    assert shown_shapes(rows["inner.1"]) == "6 of 1x1x8"
    assert suited_depth(list(rows.values())) == 1
    assert totals(rows[""], (torch.empty(6, 8), None)).endswith("at x 6x8")
