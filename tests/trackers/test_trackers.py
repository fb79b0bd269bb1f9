"""What every tracker says of itself."""

from pathlib import Path

from harness.trackers import registry


def test_every_tracker_says_what_it_needs():
    assert {"tensorboard", "mlflow", "wandb"} <= set(registry.names())
    configured = Path(__file__).parents[2].joinpath("pyproject.toml").read_text()
    for name in registry.names():
        assert registry.constant(name, "NEEDS") and all(
            f"\n{extra} = [" in configured for extra in registry.constant(name, "NEEDS").values())
