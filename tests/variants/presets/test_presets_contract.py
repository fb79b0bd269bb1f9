"""Presets by name, and official weights that go in whole or not at all. Every family is tried without a line added."""

import pathlib
import pickle

import pytest
import torch
from safetensors.torch import save_file

from variants import presets

TINY = dict(input_size=8, patch_size=2, in_channels=4, hidden_size=16, depth=1, num_heads=2, num_classes=3)


def tiny(seed=0, **changes):
    torch.manual_seed(seed)
    return presets.build("dit_s_2_256", **{**TINY, **changes})


def official(**changes):
    """A state dict with the official keys, as a network of another seed holds it."""
    slots = presets.families.load("dit").weight_map(tiny(**changes))
    generator = torch.Generator().manual_seed(7)
    return {key: torch.randn(slot.shape, generator=generator) for key, slot in slots.items()}


def refused(state_dict, match, network=None):
    """Loading raises one line that matches, and leaves every tensor as it was."""
    network = network or tiny()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(ValueError, match=match) as caught:
        presets.load(network, state_dict)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def loaded(network, state_dict):
    """Every official tensor is where its slot says, in a family that only renames."""
    own, slots = network.state_dict(), presets.families.load("dit").weight_map(network)
    return all(torch.equal(own[slot.own], state_dict[key]) for key, slot in slots.items())


def test_names_are_unique_and_described():
    names = presets.names()
    assert len(names) == len(set(names)) > 40
    for name in names:
        said = presets.describe(name)
        assert said["name"] == name and said["family"] in presets.families.names()
        assert said["source"] and isinstance(said["arguments"], dict)


def test_a_description_is_a_copy():
    presets.describe("dit_s_2_256")["arguments"]["depth"] = 1
    assert presets.describe("dit_s_2_256")["arguments"]["depth"] == 12


@pytest.mark.parametrize("family", presets.families.names())
def test_slots_cover_a_family_once(family):
    """On the meta device: every tensor of ours has its official ones, and as many numbers go in as there are."""
    name = next(iter(presets.families.load(family).PRESETS))
    with torch.device("meta"):
        network = presets.build(name)
    own = network.state_dict()
    slots = presets.families.load(family).weight_map(network)
    assert {slot.own for slot in slots.values()} == own.keys()
    assert sum(torch.Size(slot.shape).numel() for slot in slots.values()) == sum(t.numel() for t in own.values())


def test_unknown_names():
    with pytest.raises(ValueError, match="unknown preset 'dit_xl_2_265'; did you mean 'dit_xl_2_256'"):
        presets.build("dit_xl_2_265")
    with pytest.raises(ValueError, match="unknown preset 'qqqq'$"):
        presets.describe("qqqq")
    with pytest.raises(KeyError, match="no_such_family"):
        presets.build_family("no_such_family")
    with pytest.raises(TypeError, match="no_such_argument"):
        presets.build("dit_s_2_256", no_such_argument=1)


def test_changes_override_a_row():
    assert len(tiny(depth=3).blocks) == 3


def test_load_fills_a_network_and_returns_it():
    network, weights = tiny(), official()
    assert presets.load(network, weights) is network and loaded(network, weights)


def test_load_builds_the_network_of_a_name():
    with torch.device("meta"):
        slots = presets.families.load("dit").weight_map(presets.build("dit_s_8_256"))
    weights = {key: torch.full(slot.shape, 0.5) for key, slot in slots.items()}
    assert loaded(presets.load("dit_s_8_256", weights), weights)
    del weights["pos_embed"]
    with pytest.raises(ValueError, match="missing: pos_embed$"):
        presets.load("dit_s_8_256", weights)


def test_a_network_from_elsewhere_needs_its_family():
    network, weights = tiny(), official()
    del network.preset_family
    with pytest.raises(ValueError, match="which family's keys"):
        presets.load(network, weights)
    assert loaded(presets.load(network, weights, family="dit"), weights)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_files(suffix, tmp_path):
    path, weights = tmp_path / f"weights{suffix}", official()
    save_file(weights, path) if suffix == ".safetensors" else torch.save(weights, path)
    assert loaded(presets.load(tiny(), path), weights)
    assert loaded(presets.load(tiny(), str(path)), weights)


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "ema"])
def test_what_training_scripts_wrap_around(wrapper, tmp_path):
    torch.save({wrapper: official(), "step": 7}, tmp_path / "checkpoint.pt")
    assert loaded(presets.load(tiny(), tmp_path / "checkpoint.pt"), official())


def test_averaged_weights_come_first(tmp_path):
    torch.save({"model": {}, "ema": official()}, tmp_path / "checkpoint.pt")
    assert loaded(presets.load(tiny(), tmp_path / "checkpoint.pt"), official())


@pytest.mark.parametrize("prefix", ["module.", "model.diffusion_model.", "module.model.diffusion_model."])
def test_prefixes(prefix):
    weights = official()
    assert loaded(presets.load(tiny(), {prefix + key: value for key, value in weights.items()}), weights)


def test_a_prefix_is_no_excuse_for_what_does_not_fit():
    weights = {f"model.diffusion_model.{key}": value for key, value in official().items()}
    del weights["model.diffusion_model.pos_embed"]
    refused(weights, "missing: pos_embed$")
    refused({"module.pos_embed": torch.zeros(1, 16, 16), "other": torch.zeros(1)}, "missing: .* unexpected: ")


def test_half_precision_and_other_floats_are_converted():
    network = presets.load(tiny(), {key: value.half() for key, value in official().items()})
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}


def test_missing_and_extra_keys_are_named():
    weights = official()
    del weights["final_layer.linear.bias"]
    refused(weights, "missing: final_layer.linear.bias$")
    refused({**official(), "head.weight": torch.zeros(3)}, "unexpected: head.weight$")
    refused({**weights, "b": torch.zeros(1), "a": torch.zeros(1)},
            "nothing was loaded; missing: final_layer.linear.bias; unexpected: a, b$")


def test_long_lists_are_cut():
    refused({}, r"missing: ([\w.]+, ){4}[\w.]+ and \d+ more$")


def test_another_size():
    refused(official(hidden_size=24), r"of another shape: .* is \(\d+.*\), not ")
    refused(official(depth=2), r"unexpected: blocks\.1\.")
    refused(official(), r"missing: blocks\.1\.", tiny(depth=2))


def test_another_architecture():
    torch.manual_seed(0)
    other = presets.build("uvit_s2_cifar10", embed_dim=16, depth=2, num_heads=2)
    theirs = {key: torch.zeros(slot.shape)
              for key, slot in presets.families.load("uvit").weight_map(other).items()}
    refused(theirs, "missing: .* unexpected: ")


def test_what_is_no_tensor():
    refused({**official(), "pos_embed": 3}, "no tensor: pos_embed")
    refused([1, 2], "a dict of tensors or the path of a file, not list")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("keep", [0.5, 0.99, 0.0])
def test_truncated_files(suffix, keep, tmp_path):
    path = tmp_path / f"weights{suffix}"
    save_file(official(), path) if suffix == ".safetensors" else torch.save(official(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[:int(keep * len(whole))])
    refused(path, "is not a file of weights")


class Trap:
    """Touches a file when it is unpickled by a careless reader."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path(self.path),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_code_in_a_pickle_does_not_run(save, tmp_path):
    path, sprung = tmp_path / "weights.pt", tmp_path / "sprung"
    save({**official(), "trap": Trap(str(sprung))}, path)
    refused(path, "is not a file of weights")
    assert not sprung.exists()
    with path.open("rb") as file:                                      # the trap is a trap
        torch.load(file, weights_only=False) if save is torch.save else pickle.load(file)
    assert sprung.exists()


def test_other_files(tmp_path):
    refused(tmp_path / "none.pt", "none.pt: No such file")
    (tmp_path / "text.pt").write_text("not weights at all\n" * 20)
    refused(tmp_path / "text.pt", "is not a file of weights")
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    refused(tmp_path / "list.pt", "holds no state dict")
    torch.save({"epoch": 3}, tmp_path / "number.pt")
    refused(tmp_path / "number.pt", "holds no state dict")
    refused(tmp_path, "Is a directory")
