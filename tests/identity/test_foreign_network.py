"""Networks of other libraries and of people's files, under the contract of ``variants``."""

import pytest
import torch
from torch import nn

from harness.errors import InputError
from harness.identity import building, networks
from harness.identity.foreign_arguments import keyword_arguments
from harness.identity.foreign_network import adapt

SEGMENT = {"in_channels": 3, "out_channels": 5, "image_size": (32, 32), "time": False, "context_dim": None, "width": 8}
GENERATE = {**SEGMENT, "out_channels": 3, "time": True, "context_dim": 10}


def inputs(generates=False, side=32):
    return (torch.empty(1, 3, side, side), torch.zeros(1, dtype=torch.long) if generates else None,
            torch.empty(1, 1, 10) if generates else None)


def built(text, generates=False, side=32):
    name, options = networks.split_inline(text)
    arguments = {**(GENERATE if generates else SEGMENT), "image_size": (side, side), **options}
    found = building.adaptation(name, arguments, inputs(generates, side))
    return found.build(), found.assumed


@pytest.mark.parametrize("text, generates, said", [
    ("segmentation_models_pytorch:Unet(encoder_name=resnet18)", False, ["out_channels is its classes",
                                                                        "encoder_weights = None"]),
    ("monai.networks.nets:BasicUNet(features=[8, 8, 8, 8, 8, 8])", False, ["spatial_dims = 2"]),
    ("monai.networks.nets:SwinUNETR(feature_size=12)", False, ["spatial_dims = 2"]),
    ("diffusers:UNet2DModel(block_out_channels=[32, 32], down_block_types=['DownBlock2D', 'DownBlock2D'], "
     "up_block_types=['UpBlock2D', 'UpBlock2D'])", True,
     ["image_size is its sample_size", "the time step is its timestep", "the class is its class_labels"]),
    ("torchvision.models.segmentation:lraspp_mobilenet_v3_large", False, [
        "out_channels is its num_classes", "weights_backbone = None", "of its outputs, out is the answer"])])
def test_a_network_of_another_library_runs_as_it_comes(text, generates, said):
    network, assumed = built(text, generates)
    assert set(said) <= set(assumed)
    draws = torch.Generator().manual_seed(0)
    given = [torch.randn(2, 3, 32, 32, generator=draws)]
    if generates:
        given += [torch.tensor([3, 999]), torch.eye(10)[[2, 7]][:, None]]
    y = network.train()(*given)
    assert y.shape == (2, 3 if generates else 5, 32, 32)
    y.float().mean().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_time_step_and_class_reach_a_denoiser_of_diffusers():
    network, _ = built("diffusers:UNet2DConditionModel(block_out_channels=[32, 32], layers_per_block=1, "
                       "down_block_types=['DownBlock2D', 'CrossAttnDownBlock2D'], "
                       "up_block_types=['CrossAttnUpBlock2D', 'UpBlock2D'])", True)
    network.eval()
    x, t, context = torch.ones(1, 3, 32, 32), torch.tensor([10]), torch.eye(10)[[2]][:, None]
    with torch.no_grad():
        base = network(x, t, context)
        assert not torch.allclose(base, network(x, t + 500, context))
        assert not torch.allclose(base, network(x, t, torch.eye(10)[[3]][:, None]))


class Labels(nn.Module):
    """As DiT: ``num_classes`` of what it is conditioned on; the class after the last stands for none."""

    def __init__(self, in_channels=3, num_classes=1000):
        super().__init__()
        self.seen, self.table = [], nn.Embedding(num_classes + 1, in_channels)

    def forward(self, x, t, y):
        self.seen.append(y.tolist())
        return x + self.table(y)[:, :, None, None]


def test_a_table_of_classes_gets_labels_and_its_last_entry_for_none():
    found = adapt("x:Labels", Labels, GENERATE, inputs(True))
    network = found.build()
    network(torch.zeros(2, 3, 8, 8), torch.zeros(2), torch.stack([torch.eye(10)[4], torch.zeros(10)])[:, None])
    assert network.network.seen == [[4, 10]] and network.network.table.num_embeddings == 11
    assert "num_classes = 10" in found.assumed


class Halves(nn.Module):
    """Takes sides that 16 divides, and returns its answer beside others, smaller ones in training."""

    def __init__(self, n_channels, n_classes):
        super().__init__()
        self.conv = nn.Conv2d(n_channels, n_classes, 1)

    def forward(self, x):
        if x.shape[2] % 16 or x.shape[3] % 16:
            raise RuntimeError("sides must be multiples of 16")
        y = self.conv(x)
        return [y, y[..., ::2, ::2], y[..., ::4, ::4]] if self.training else y


def test_sides_are_padded_and_cut_back_and_several_outputs_are_trained():
    found = adapt("x:Halves", Halves, SEGMENT, inputs(side=24))
    assert any("multiples of 16" in line for line in found.assumed)
    assert any("deep supervision" in line for line in found.assumed)
    network, x = found.build(), torch.randn(2, 3, 24, 24)
    outputs = network.train()(x)
    assert [tuple(each.shape) for each in outputs] == [(2, 5, 24, 24)] * 3
    assert torch.equal(network.eval()(x), network.network.conv(x))


def answering(answer):
    class Net(nn.Module):
        def __init__(self, in_chans=3, num_class=5):
            super().__init__()
            self.conv = nn.Conv2d(in_chans, num_class, 3, padding=1)

        def forward(self, image):
            return answer(self.conv(image))
    return Net


@pytest.mark.parametrize("answer", [
    lambda y: y, lambda y: (y, "features"), lambda y: {"aux": y * 0, "out": y}, lambda y: [None, y],
    lambda y: {"features": y[:, :2], "logits": y}, lambda y: y[..., ::2, ::2]])
def test_outputs_as_the_field_has_them(answer):
    network = adapt("x:Net", answering(answer), SEGMENT, inputs()).build().eval()
    x = torch.randn(1, 3, 32, 32)
    assert network(x).shape == (1, 5, 32, 32) and network(x).abs().sum() > 0


@pytest.mark.parametrize("answer, says", [(lambda y: y[:, :2], r"\(N, 5, H, W\), not \(2, 2, 32, 32\)"),
                                          (lambda y: "nothing", "not"), (lambda y: y.mean((2, 3)), r"\(2, 5\)")])
def test_an_output_that_fits_nothing_is_said_with_what_is_wanted(answer, says):
    with pytest.raises(ValueError, match=says):
        adapt("x:Net", answering(answer), SEGMENT, inputs())


def test_what_follows_the_contract_is_not_wrapped():
    class Own(nn.Module):
        def __init__(self, in_channels, out_channels, **others):
            super().__init__()
            self.conv = nn.Conv2d(in_channels, out_channels, 1)

        def forward(self, x, t=None, context=None):
            return self.conv(x)
    found = adapt("x:Own", Own, SEGMENT, inputs())
    assert isinstance(found.build(), Own) and found.assumed == ()


def test_a_network_that_draws_in_evaluation_is_said():
    noisy = answering(lambda y: y + torch.rand_like(y))
    assert "it is not deterministic in evaluation mode" in adapt("x:Net", noisy, SEGMENT, inputs()).assumed


def test_trying_moves_no_random_state():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    adapt("x:Net", answering(lambda y: y), SEGMENT, inputs())
    assert torch.equal(before, torch.random.get_rng_state())


def test_what_a_factory_needs_is_said_with_how_to_give_it():
    with pytest.raises(InputError, match=r"needs depth, heads: give them as --variant 'f.py:make\(depth=..., heads"):
        keyword_arguments("a/b/f.py:make", lambda depth, heads, in_channels: None, SEGMENT)


@pytest.mark.parametrize("factory, given", [
    (lambda img_ch=1, output_ch=1: None, {"img_ch": 3, "output_ch": 5}),
    (lambda in_chans, num_classes, img_size=224: None, {"in_chans": 3, "num_classes": 5, "img_size": 32}),
    (lambda in_channels, out_channels, input_size=(1, 1): None,
     {"in_channels": 3, "out_channels": 5, "input_size": (32, 32)}),
    (lambda in_channels, classes, weights="imagenet", **more: None,
     {"in_channels": 3, "classes": 5, "weights": None}),
    (lambda in_channels, out_channels, pretrained=True: None,
     {"in_channels": 3, "out_channels": 5, "pretrained": False}),
    (lambda in_channels, out_channels, dims=(1, 2): None, {"in_channels": 3, "out_channels": 5}),
    (lambda **others: None, SEGMENT)])
def test_arguments_as_the_field_names_them(factory, given):
    assert keyword_arguments("x:y", factory, SEGMENT)[0] == given


def test_what_a_person_gives_goes_before_what_is_assumed():
    def factory(in_channels, classes, encoder_weights="imagenet"):
        pass
    given, assumed = keyword_arguments("x:y", factory, {**SEGMENT, "classes": 2, "encoder_weights": "imagenet"})
    assert given == {"in_channels": 3, "classes": 2, "encoder_weights": "imagenet"}
    assert not any("classes" in line or "weights" in line for line in assumed)


@pytest.mark.parametrize("text, found", [
    ("m:Net", ("m:Net", {})), ("plain(width=8)", ("plain", {"width": 8})),
    ("a.b:Net(name=resnet18, sizes=[1, 2], on=True)", ("a.b:Net", {"name": "resnet18", "sizes": [1, 2], "on": True}))])
def test_arguments_in_the_name(text, found):
    assert networks.split_inline(text) == found


@pytest.mark.parametrize("text", ["m:Net(3)", "m:Net(a=)", "m:Net(**b)", "m:Net(a=f(2))"])
def test_arguments_in_the_name_that_are_none(text):
    with pytest.raises(InputError, match="argument=value"):
        networks.split_inline(text)
