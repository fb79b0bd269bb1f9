"""A batch is a function of (seed, step): any step can be made alone, and none repeats another."""

import pickle

import pytest
import torch

from harness.training.batches import EpochOrder, generator


@pytest.mark.parametrize("count, batch_size", [(10, 3), (8, 4), (3, 7), (1, 5), (64, 64)])
def test_every_item_comes_once_an_epoch_and_batches_run_on(count, batch_size):
    order = EpochOrder(count, batch_size, seed=5)
    steps = -(-4 * count // batch_size)
    seen = torch.cat([order.indices(step) for step in range(steps)])[:4 * count].view(4, count)
    assert torch.equal(seen.sort(1).values, torch.arange(count).expand(4, count))
    assert all(len(order.indices(step)) == batch_size for step in range(steps))
    if count > 8:
        assert len({tuple(epoch.tolist()) for epoch in seen}) == 4


def test_steps_in_any_order_and_after_a_journey_are_the_same():
    order = EpochOrder(100, 16, seed=1)
    expected = {step: order.indices(step) for step in range(40)}
    other = pickle.loads(pickle.dumps(EpochOrder(100, 16, seed=1)))
    for step in (39, 3, 17, 0, 31):
        assert torch.equal(other.indices(step), expected[step])
    assert not torch.equal(EpochOrder(100, 16, seed=2).indices(0), expected[0])


def test_generators_differ_by_step_seed_and_purpose():
    keys = [(0, 0, 0), (0, 1, 0), (0, 2**31, 0), (1, 0, 0), (-1, 0, 0), (0, 0, 1)]
    draws = [tuple(torch.rand(3, generator=generator(*key)).tolist()) for key in keys]
    assert len(set(draws)) == len(keys)
    assert draws[3] == tuple(torch.rand(3, generator=generator(1, 0)).tolist())


def test_no_two_steps_of_a_seed_share_a_state():
    """PyTorch keeps 32 bits of a seed; of hashes, 100,000 would hold a pair with a probability of 0.69."""
    seeds = {generator(7, step).initial_seed() for step in range(100_000)}
    assert len(seeds) == 100_000 and max(seeds) < 2**32


def test_consecutive_steps_are_uncorrelated():
    noise = torch.stack([torch.randn(4096, generator=generator(3, step)) for step in range(64)])
    correlation = torch.corrcoef(noise) - torch.eye(64)
    assert correlation.abs().max() < 5.5 / 4096 ** 0.5 and noise.mean().abs() < 0.01
