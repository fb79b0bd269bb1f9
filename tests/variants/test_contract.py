"""What every network keeps to. A new file in variants/ is tested here without a line being added."""

import pytest
import torch
from safetensors.torch import load_model, save_model

import variants

TASKS = {
    "segmenter": dict(in_channels=3, out_channels=5, image_size=(37, 50)),
    "denoiser": dict(in_channels=1, out_channels=1, image_size=16, time=True),
    "conditional denoiser": dict(in_channels=1, out_channels=1, image_size=8, time=True, context_dim=6),
}
every_variant = pytest.mark.parametrize("name", variants.names())
every_task = pytest.mark.parametrize("task", TASKS)


def build(name, task, seed=0):
    torch.manual_seed(seed)
    return variants.build(name, width=8, **TASKS[task])


def inputs(task, size=None, batch=2):
    generator = torch.Generator().manual_seed(1)
    arguments = TASKS[task]
    side = arguments["image_size"]
    size = size or (side if isinstance(side, tuple) else (side, side))
    x = torch.randn(batch, arguments["in_channels"], *size, generator=generator)
    t = torch.tensor([3, 517])[:batch] if arguments.get("time") else None
    dim = arguments.get("context_dim")
    return x, t, torch.randn(batch, 3, dim, generator=generator) if dim else None


def leave_the_start(network):
    """Layers that start at zero hide what lies before them from the gradient; move to a generic point."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


@every_task
@every_variant
def test_output_has_the_images_size(name, task):
    x, t, context = inputs(task)
    y = build(name, task)(x, t, context)
    assert y.shape == (len(x), TASKS[task]["out_channels"], *x.shape[2:])
    assert y.isfinite().all()


@every_variant
@pytest.mark.parametrize("size", [(37, 50), (16, 16), (19, 64)])
def test_odd_and_other_sizes_than_built_for(name, size):
    x, t, context = inputs("conditional denoiser", size)
    assert build(name, "conditional denoiser")(x, t, context).shape == x.shape


@every_task
@every_variant
def test_gradient_reaches_every_parameter(name, task):
    network = build(name, task)
    leave_the_start(network)
    network(*inputs(task)).square().mean().backward()
    without = [key for key, p in network.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not without


@every_task
@every_variant
def test_saved_and_loaded_weights_give_the_same_output(name, task, tmp_path):
    network, other = build(name, task), build(name, task, seed=1)
    leave_the_start(network)
    arguments = inputs(task)
    expected = network.eval()(*arguments)
    assert not torch.equal(other.eval()(*arguments), expected)
    save_model(network, str(tmp_path / "model.safetensors"))
    load_model(other, tmp_path / "model.safetensors")
    assert torch.equal(other.eval()(*arguments), expected)


@every_variant
def test_output_depends_on_time_and_context(name):
    network = build(name, "conditional denoiser").eval()
    leave_the_start(network)
    x, t, context = inputs("conditional denoiser")
    y = network(x, t, context)
    assert not torch.allclose(network(x, t + 100, context), y, atol=1e-6)
    assert not torch.allclose(network(x, t, torch.zeros_like(context)), y, atol=1e-6)


@every_variant
def test_examples_of_a_batch_do_not_mix(name):
    network = build(name, "conditional denoiser").eval()
    leave_the_start(network)
    x, t, context = inputs("conditional denoiser")
    alone = torch.cat([network(x[i:i + 1], t[i:i + 1], context[i:i + 1]) for i in range(2)])
    torch.testing.assert_close(network(x, t, context), alone, atol=1e-4, rtol=1e-4)


@every_variant
def test_width_moves_the_size(name):
    def parameters(width):
        with torch.device("meta"):
            network = variants.build(name, width=width, **TASKS["denoiser"])
        return sum(p.numel() for p in network.parameters())

    assert parameters(8) < parameters(16) < parameters(32)


@every_variant
def test_unknown_option_is_refused(name):
    with pytest.raises(TypeError, match="no_such_option"):
        variants.build(name, no_such_option=1, **TASKS["denoiser"])


@every_variant
def test_same_seed_gives_the_same_weights(name):
    first, second = build(name, "denoiser"), build(name, "denoiser")
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values()))


def test_unknown_variant():
    with pytest.raises(KeyError, match="plian"):
        variants.build("plian")
