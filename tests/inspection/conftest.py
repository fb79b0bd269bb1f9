"""A network of one's own that what looks at networks is asked about."""

import pytest

HALVING = """
import torch
class Halving(torch.nn.Module):
    def __init__(self, in_channels, out_channels, **others):
        super().__init__()
        self.down = torch.nn.Conv2d(in_channels, 8, 2, stride=2)
        self.up = torch.nn.ConvTranspose2d(8, out_channels, 2, stride=2)
    def forward(self, x, t=None, context=None):
        {check}
        return x + self.up(self.down(x))
"""


@pytest.fixture
def halving(tmp_path):
    """halving(only=None): the name of one that takes even sides, or that one, only; it lies in a file."""
    def make(only=None):
        path = tmp_path / "mine.py"
        path.write_text(HALVING.format(check=f"assert x.shape[2] == {only}" if only else ""))
        return f"{path}:Halving"

    return make
