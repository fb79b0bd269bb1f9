"""Drawings: what feeds what is found by following tensors, and what is drawn is well-formed and says it."""

from xml.dom import minidom

import pytest
import torch
from torch import nn

import variants
from harness.cli import main
from harness.inspection.draw_boxes import ATTENTION_FILL, CONTEXT_FILL, fill_boxes, halvings, make_boxes
from harness.inspection.draw_network import draw
from harness.inspection.draw_stack import runs
from harness.inspection.svg import Canvas
from harness.inspection.trace import CONTEXT, TIME, X, trace
from harness.measurement.network import subject


def boxes_of(name, size=64, together=True, **changes):
    shown = subject(name, size, changes)
    boxes = make_boxes(trace(shown.network, shown.inputs), shown.inputs[0].shape, together)
    fill_boxes(boxes)
    return boxes


def words(svg):
    """Texts that are read; the paper behind one that lies on a line is not."""
    return [node.firstChild.data for node in minidom.parseString(svg).getElementsByTagName("text")
            if not node.hasAttribute("aria-hidden")]


def drawn(name, size=64, **changes):
    shown = subject(name, size, changes)
    return draw(shown.network, shown.inputs, name)


def joins(boxes):
    """(level of the box that takes, level of what it takes, kind) of everything that comes from the side."""
    return [(box.level, source.level, kind) for box in boxes for source, kind in box.sources[1:]]


@pytest.mark.parametrize("name", variants.names())
def test_every_network_is_drawn_with_its_shapes(name):
    svg = drawn(name, 32, context_dim=6)
    said = words(svg)
    assert name in said and any(word.startswith("3 × 32 × 32 → 3 × 32 × 32, ") for word in said)
    assert any("32×32" in word or "3 × 32 × 32" in word for word in said[:-2])
    assert "nan" not in svg


@pytest.mark.parametrize("name, kind", [("plain", "concat"), ("attention_gate", "gate"), ("no_skip", "none")])
def test_a_u_has_its_levels_and_skips(name, kind):
    boxes = boxes_of(name)
    assert [box.level for box in boxes] == [0, 0, 1, 2, 3, 2, 1, 0, 0]
    assert [box.shape[1:] for box in boxes[1:5]] == [(32, 64, 64), (64, 32, 32), (128, 16, 16), (256, 8, 8)]
    assert joins(boxes) == [(level, level, kind) for level in (2, 1, 0)]
    assert words(drawn(name)).count(kind) == 3


def test_added_and_dropped_skips_are_told_apart():
    assert [kind for *_, kind in joins(boxes_of("plain", skip="add", skip_levels=[1]))] == ["none", "add", "none"]


def test_attention_and_what_it_reads_are_marked():
    assert [box.level for box in boxes_of("cross_attention") if box.fills == ATTENTION_FILL] == [2, 3, 2]
    assert [box.level for box in boxes_of("cross_attention", context_dim=5) if box.fills == CONTEXT_FILL] == [2, 3, 2]
    said = words(drawn("cross_attention", context_dim=5))
    assert "t → 128" in said and "context 1×5" in said and "with attention to the context" in said
    assert not any(box.fills == ATTENTION_FILL for box in boxes_of("plain"))


def test_time_reaches_the_blocks_through_the_embedding():
    shown = subject("plain", 64, {"context_dim": 4})
    units = trace(shown.network, shown.inputs)
    embedding = next(unit for unit in units if not unit.sees)
    assert embedding.sources == {TIME, CONTEXT}
    told = [unit.path for unit in units if embedding.index in unit.sources]
    assert len(told) == 7 and all("parts.0" in path for path in told)
    assert "t + context → 128" in words(drawn("plain", context_dim=4))
    assert not any("t" == word for word in words(drawn("plain", time=False)))


def test_scores_of_an_fcn_are_added_at_the_output():
    assert joins(boxes_of("fcn")) == [(0, 4, "add"), (0, 3, "add")]


def test_a_stack_is_a_run_of_equal_blocks():
    boxes = boxes_of("dit", together=False, depth=9)
    assert max(len(run) for run in runs(boxes)) == 9
    said = words(drawn("dit", depth=9))
    assert "9 ×" in said and any("256 tokens × 128" in word for word in said)


def test_long_skips_fold_the_stack():
    boxes = boxes_of("uvit", together=False, depth=6)
    skips = [(boxes.index(source), boxes.index(box)) for box in boxes for source, kind in box.sources[1:]]
    first = skips[-1][0]
    assert skips == [(first + 2 - i, first + 4 + i) for i in range(3)]
    assert words(drawn("uvit", depth=6)).count("concat") == 3


class Branches(nn.Module):
    """A chain with a branch that is added behind it, two outputs, and a module that hands on what it gets."""

    def __init__(self):
        super().__init__()
        self.first, self.side = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 1)
        self.down = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(4, 6, 1))
        self.same = nn.Dropout(0.5)
        self.late, self.last = nn.Conv2d(6, 2, 1), nn.Conv2d(6, 1, 1)

    def forward(self, x):
        a = self.same(self.first(x))
        b = nn.functional.interpolate(self.down(a), scale_factor=2)
        return [self.last(self.side(a) + b), self.late(b)]


def test_any_module_is_followed_through_operations_of_its_own():
    with torch.device("meta"):
        network, x = Branches().eval(), torch.empty(1, 3, 16, 16)
    units = {unit.path: unit for unit in trace(network, (x,)) if unit.path != "output"}
    assert units["first"].sources == {X} and units["same"].sources == {units["first"].index}
    assert units["down"].sources == units["side"].sources == {units["same"].index}
    assert units["last"].sources == {units["side"].index, units["down"].index} and units["last"].joined == "add"
    outputs = [unit for unit in trace(network, (x,)) if unit.path == "output"]
    assert [unit.shape for unit in outputs] == [(1, 1, 16, 16), (1, 2, 16, 16)]
    minidom.parseString(draw(network, (x,), "branches"))


def test_what_unpadded_convolutions_trim_is_no_level():
    assert [halvings((1, 1, a, a), (1, 1, b, b)) for a, b in ((64, 32), (37, 18), (5, 3), (572, 568), (13, 9), (28, 56),
                                                              (8, 64))] == [1, 1, 0, 0, 0, -1, -3]


def test_names_are_escaped_and_nothing_is_cut_off():
    canvas = Canvas()
    canvas.box(-50, -20, 10, 10, "#ffffff", tip='a < b & "c"')
    canvas.text(300, 40, "<x>", anchor="end")
    page = minidom.parseString(canvas.svg("<&>")).documentElement
    left, top, width, height = map(float, page.getAttribute("viewBox").split())
    assert left < -50 and top < -20 and left + width > 300 and top + height > 40
    assert [node.firstChild.data for node in page.getElementsByTagName("title")] == ["<&>", 'a < b & "c"']


def test_the_command_writes_the_file(tmp_path):
    from click.testing import CliRunner
    done = CliRunner().invoke(main, ["inspect", "plain", "--size", "16", "--svg", str(tmp_path / "new" / "plain.svg")])
    assert done.exit_code == 0, done.output
    assert "16×16" in words((tmp_path / "new" / "plain.svg").read_text())


def test_words_on_a_line_have_paper_behind_them_in_any_renderer_and_every_colour_has_a_legend():
    svg = drawn("plain")
    texts = minidom.parseString(svg).getElementsByTagName("text")
    behind = [node.firstChild.data for node in texts if node.hasAttribute("aria-hidden")]
    assert "paint-order" not in svg and behind == ["concat"] * 3
    assert {"image", "block", "concatenated", "time embedding"} <= set(words(svg))
