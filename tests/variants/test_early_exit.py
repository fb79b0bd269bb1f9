"""Early exit: who leaves where, that those who leave get that head's output, and what it costs on average."""

import math

import pytest
import torch

import variants
from variants.early_exit import average_cost, class_confidence, exit_macs


def build(threshold=None, **options):
    torch.manual_seed(0)
    return variants.build("early_exit", in_channels=1, out_channels=3, image_size=16, width=4, exits=(1, 2),
                          channel_mult=(1, 2, 2, 4), exit_threshold=threshold, **options).eval()


def images(n=6):
    return torch.randn(n, 1, 17, 22, generator=torch.Generator().manual_seed(1))


def by_exit(network, x, *rest):
    """The output of every exit, the network's end last."""
    outputs = []
    for exit in range(len(network.exits.heads) + 1):
        network.exits.only = exit
        outputs.append(network(x, *rest))
    network.exits.only = None
    return outputs


def test_confidence_by_hand():
    logits = torch.tensor([[[[0.0, math.log(3)]], [[0.0, 0.0]]]])                  # 1/2 and 3/4
    torch.testing.assert_close(class_confidence(logits), torch.tensor([0.625]))
    assert class_confidence(torch.tensor([[[[-math.log(3)]]]])).item() == pytest.approx(0.75)


@torch.no_grad()
def test_without_a_threshold_all_go_to_the_end():
    network = build()
    y = network(images())
    assert y.shape == (6, 3, 17, 22) and torch.equal(y, by_exit(network, images())[-1])
    assert network.exits.left == [0, 0, 6]


@torch.no_grad()
def test_a_threshold_of_zero_lets_all_leave_at_once():
    network = build(0.0)
    assert torch.equal(network(images()), by_exit(network, images())[0])
    assert network.exits.left == [6, 0, 0]


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"skip": "gate"}, {"skip": "none", "block": "residual"}])
def test_each_image_gets_the_output_of_its_exit(options):
    """Thresholds between the images' confidences, so that some leave at every exit."""
    network, x = build(**options), images()
    outputs = by_exit(network, x)
    sure = torch.stack([class_confidence(y) for y in outputs[:-1]])                # (exits, N)
    for threshold in sure.flatten().sort().values[::3] + 1e-6:
        network.exits.threshold = float(threshold)
        network.exits.reset()
        y = network(x)
        exits = [next((k for k in range(2) if sure[k, i] >= threshold), 2) for i in range(len(x))]
        for i, k in enumerate(exits):
            torch.testing.assert_close(y[i], outputs[k][i], atol=1e-5, rtol=1e-5)
        assert network.exits.left == [exits.count(k) for k in range(3)]


@torch.no_grad()
def test_time_and_context_stay_with_their_images():
    network = build(time=True, context_dim=4, attention_levels=(0,), attention="transformer", context_by="attention")
    x, t, context = images(), torch.arange(6) * 100, torch.randn(6, 2, 4)
    outputs = by_exit(network, x, t, context)
    sure = class_confidence(outputs[0])
    network.exits.threshold = float(sure.median()) + 1e-6
    y = network(x, t, context)
    for i in (sure < sure.median()).nonzero().flatten():
        assert min((y[i] - output[i]).abs().max() for output in outputs[1:]) < 1e-5


@torch.no_grad()
def test_shares_add_up_over_calls():
    network = build(0.0)
    assert all(math.isnan(share) for share in network.exits.shares())
    network(images(2)), network(images(3))
    network.exits.threshold = 2.0                                                  # nobody is that sure
    network(images(5))
    assert network.exits.left == [5, 0, 5] and network.exits.shares() == [0.5, 0.0, 0.5]


@torch.no_grad()
def test_average_cost():
    network, one = build(0.0), images(1)
    macs = exit_macs(network, one)
    assert macs == sorted(macs) and macs[0] < 0.8 * macs[-1]
    assert math.isnan(average_cost(network, one)["average_macs"])
    network(images(4))
    assert average_cost(network, one) == {"macs": macs, "shares": [1.0, 0.0, 0.0], "average_macs": macs[0]}
    network.exits.threshold = 2.0
    network(images(4))
    assert average_cost(network, one)["average_macs"] == pytest.approx((macs[0] + macs[-1]) / 2)
    assert next(network.parameters()).device.type == "cpu" and network.exits.only is None


def test_cost_of_the_whole_way_is_the_networks_with_its_heads():
    network = build()
    plain = variants.build("plain", in_channels=1, out_channels=3, image_size=16, width=4, channel_mult=(1, 2, 2, 4))
    heads = sum(8 * 3 * (17 >> level) * (22 >> level) for level in (1, 2))          # 1x1, 8 -> 3
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        plain.to("meta")(images(1).to("meta"))
    assert exit_macs(network, images(1))[-1] == counter.get_total_flops() // 2 + heads


def test_training_reaches_every_exit():
    network = build().train()
    for _ in range(20):
        network(images(2)).square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())
    assert network.exits.left == [0, 0, 0]


def test_an_exit_changes_nothing_else():
    torch.manual_seed(0)
    plain = variants.build("plain", in_channels=1, out_channels=3, image_size=16, width=4, channel_mult=(1, 2, 2, 4))
    network = build()
    missing = network.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing and all(key.startswith("exits.heads.") for key in missing)
    with torch.no_grad():
        assert torch.equal(network(images()), plain.eval()(images()))


@pytest.mark.parametrize("exits", [(0,), (3,)])
def test_exits_out_of_range(exits):
    with pytest.raises(ValueError, match=r"must be among the decoder's levels 1\.\.2"):
        variants.build("early_exit", in_channels=1, out_channels=1, image_size=64, exits=exits)


@pytest.mark.parametrize("size, exits", [(64, 1), (8, 1), (4, 0), (2, 0)])
def test_one_exit_unless_said_otherwise(size, exits):
    network = variants.build("early_exit", in_channels=1, out_channels=1, image_size=size, width=8)
    assert len(network.exits.heads) == exits
    assert network(torch.zeros(1, 1, size, size)).shape == (1, 1, size, size)


def test_each_training_image_has_one_exit_in_turn():
    network = build().train()
    x = images()
    outputs = torch.stack(by_exit(network.eval(), x))                              # (exits, N, C, H, W)
    y = network.train()(x)
    close = torch.isclose(y, outputs, atol=1e-5).flatten(2).all(dim=2)             # (exits, N)
    first = int(close[:, 0].nonzero()[0])
    assert [int(column.nonzero()[0]) for column in close.T] == [(first + i) % 3 for i in range(len(x))]


def test_on_the_meta_device_all_go_to_the_end():
    """Costs are counted on paper, where no confidence is known: the whole way is."""
    network = build(0.0).to("meta")
    assert network(images().to("meta")).shape == (6, 3, 17, 22) and network.exits.left == [0, 0, 6]
