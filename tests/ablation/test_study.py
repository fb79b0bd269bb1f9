"""Studies as data: arms, axes and designs; every mistake in a file is one line with its place."""

import pytest
import yaml

from harness.ablation.study import difference, read_study, study_names
from harness.errors import InputError

SUITE = {"segmentation": {"outcome": "dice_macro", "curve": "validation Dice"}}
ARMS = {"title": "t", "question": "q", "suites": SUITE, "base": "a",
        "arms": {"a": {"variant": "plain"}, "b": {"variant": "no_skip"}}}
AXES = {"title": "t", "question": "q", "suites": SUITE,
        "axes": {"skip": {"concat": {"options.skip": "concat"}, "add": {"options.skip": "add"}},
                 "norm": {"group": {"options.norm": "group"}, "batch": {"options.norm": "batch"}},
                 "depth": {"1": {"options.num_blocks": 1}, "2": {"options.num_blocks": 2}}}}


def written(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return str(path)


def arms(tmp_path, content):
    return read_study(written(tmp_path, content))[2]


def test_the_base_comes_first_and_differences_are_to_it(tmp_path):
    found = arms(tmp_path, {**ARMS, "base": "b", "common": {"train.steps": 7}})
    assert [arm.name for arm in found] == ["b", "a"]
    assert found[0].difference == {} and found[1].difference == {"variant": "plain"}
    assert all(arm.change["train.steps"] == 7 for arm in found)


def test_an_arm_may_come_from_another(tmp_path):
    content = {**ARMS, "arms": {"a": {"variant": "plain"}, "c": {"from": "b", "options.num_blocks": 2},
                                "b": {"options.skip": "add", "options.norm": "batch"}}}
    change = {arm.name: arm.change for arm in arms(tmp_path, content)}["c"]
    assert change == {"variant": "plain", "options.skip": "add", "options.norm": "batch", "options.num_blocks": 2}


def test_one_at_a_time_full_and_fraction(tmp_path):
    single = arms(tmp_path, AXES)
    assert len(single) == 4                         # the base, and each axis' other level
    assert [sum(arm.levels[axis] != single[0].levels[axis] for axis in arm.levels) for arm in single] == [0, 1, 1, 1]
    full = arms(tmp_path, {**AXES, "design": "full"})
    assert len({tuple(arm.levels.values()) for arm in full}) == 8
    assert full[0].levels == {"skip": "concat", "norm": "group", "depth": "1"}
    half = arms(tmp_path, {**AXES, "design": "fraction", "generators": {"depth": "skip * norm"}})
    seconds = [[arm.levels[axis] != half[0].levels[axis] for axis in AXES["axes"]] for arm in half]
    assert len(half) == 4 and all(depth == (skip != norm) for skip, norm, depth in seconds)
    for column in zip(*seconds, strict=True):      # balanced: each level of each axis in half of the runs
        assert sum(column) == 2


def test_a_level_of_several_changes_merges_in_the_files_order(tmp_path):
    content = {**AXES, "axes": {"batch": {"16": {"train.batch_size": 16},
                                          "4": {"train.batch_size": 4, "train.learning_rate": 1e-3}}}}
    assert arms(tmp_path, content)[1].difference == {"train.batch_size": 4, "train.learning_rate": 1e-3}


def test_difference_says_what_only_the_base_has():
    assert difference({"a": 1, "b": 2}, {"b": 3, "c": 4}) == {"a": 1, "b": 2, "c": None}


def line_of(text, words):
    return next(i for i, line in enumerate(text.splitlines(), 1) if words in line)


@pytest.mark.parametrize("change, at, says", [
    ({"arms": {"a": {}, "b": {"variant": "plane"}}}, "plane", "unknown variant 'plane'; did you mean 'plain'?"),
    ({"arms": {"a": {}, "b": {"option.skip": "add"}}}, "option.skip", "did you mean 'options.skip'?"),
    ({"arms": {"a": {}, "b": {"skip": "add"}}}, "skip:", "unknown change 'skip'; did you mean 'options.skip'?"),
    ({"arms": {"a": {}, "b": {"train.step": 5}}}, "train.step", "unknown budget entry 'step'; did you mean 'steps'?"),
    ({"arms": {"a": {}, "b": {"data.train": 5}}}, "data.train", "arms share their data"),
    ({"arms": {"a": {}, "b": {"from": "c", "variant": "dit"}}}, "from", "unknown arm 'c'"),
    ({"arms": {"a": {}, "b": {"from": "c"}, "c": {"from": "b"}}}, "b:", "a cycle: b from c from b"),
    ({"arms": {"a": {}, "b": {"from": "b"}}}, "b:", "a cycle: b from b"),
    ({"arms": {"a": {}, "b": {}}}, "b:", "arms 'a' and 'b' are the same"),
    ({"arms": {"a": {}}}, "arms", "a base and at least one arm"),
    ({"base": "d"}, "base", "there is no arm"),
    ({"bass": "a"}, "bass", "unknown entry 'bass'; did you mean 'base'?"),
    ({"seeds": 0}, "seeds", "at least one seed"),
    ({"seeds": [0, 3, 3]}, "- 3", "seed 3 is given twice"),
    ({"seeds": [-1, 2]}, "seeds", "0 or more"),
    ({"match": ["parms"]}, "match", "match.0"),
    ({"match": "parms"}, "match", "'none', 'params', 'macs' or 'latency'"),
    ({"claims": ["skips_raise_dise"]}, "- skips", "unknown claim 'skips_raise_dise'; did you mean 'skips_raise_dice'?"),
    ({"suites": {"segmentatoin": SUITE["segmentation"]}}, "segmentatoin", "did you mean 'segmentation'?"),
    ({"suites": {"segmentation": {"outcome": "dice"}}}, "outcome", "unknown metric 'dice'; did you mean 'dice_m"),
    ({"suites": {"segmentation": {**SUITE["segmentation"], "also": ["iou_mackro"]}}}, "also", "unknown metric"),
    ({"suites": {"segmentation": {**SUITE["segmentation"], "curve": "validation dice"}}}, "curve:", "unknown curve"),
    ({"suites": {"segmentation": {**SUITE["segmentation"], "outcom": "x"}}}, "outcom:", "did you mean 'outcome'?"),
    ({"axes": AXES["axes"]}, "axes", "either arms or axes"),
    ({"suites": {}}, "suites", "at least 1 item"),
])
def test_every_mistake_is_one_line_with_its_place(tmp_path, change, at, says):
    text = yaml.safe_dump({**ARMS, **change}, sort_keys=False)
    with pytest.raises(InputError) as caught:
        arms(tmp_path, text)
    message = str(caught.value)
    assert says in message and "\n" not in message
    assert abs(int(message.partition("mine.yaml:")[2].partition(":")[0]) - line_of(text, at)) <= 1


@pytest.mark.parametrize("change, says", [
    ({"axes": {"skip": {"add": {}}}}, "at least two levels"),
    ({"axes": {}}, "needs arms or axes"),
    ({"design": "fraction"}, "a fraction needs generators"),
    ({"design": "fraction", "generators": {"depht": "skip * norm"}}, "unknown axis 'depht'; did you mean 'depth'?"),
    ({"design": "fraction", "generators": {"depth": "skip * nrom"}}, "unknown axis 'nrom'; did you mean 'norm'?"),
    ({"design": "fraction", "generators": {"depth": "skip * norm", "norm": "skip * depth"}}, "a cycle"),
    ({"design": "full", "generators": {"depth": "skip * norm"}}, "generators belong to design: fraction"),
    ({"axes": {"skip": {"a": {"options.skip": "add"}, "b": {"options.skip": "add"}}}}, "are the same"),
])
def test_mistakes_in_axes(tmp_path, change, says):
    with pytest.raises(InputError, match="mine.yaml:[0-9]+: ") as caught:
        arms(tmp_path, {**AXES, **change})
    assert says in str(caught.value)


def test_an_unknown_study_is_named_with_the_nearest():
    with pytest.raises(InputError, match="unknown study 'skip'; did you mean 'skips'?"):
        read_study("skip")
    assert "skips" in study_names()


def test_a_single_matching_needs_no_list(tmp_path):
    assert read_study(written(tmp_path, {**ARMS, "match": "params"}))[0].match == ("params",)
