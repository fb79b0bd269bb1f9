"""The one encoder-decoder: steps down that leave something at the side, steps up that may take it.

Everything U-shaped in this project is a list of steps given to :class:`EncoderDecoder`: where skips are left (after
a level, or after every block), what resamples, what a step is made of. The encoder-decoder only walks.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from variants.parts.exits import EarlyExits, enlarge
from variants.parts.resampling import crop, fit


class Conditioned(nn.Module):
    """A module that is called as ``module(x, emb, context)``; every other one as ``module(x)``.

    ``emb`` (N, D) is the embedded time step, ``context`` (N, L, context_dim) tokens; either may be None.
    """

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest) -> None:
        """Load tensors, also those saved while a block's ``modulation`` was called ``told``."""
        old = f"{prefix}told."
        for key in [key for key in state_dict if key.startswith(old)]:
            state_dict[f"{prefix}modulation.{key.removeprefix(old)}"] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def check_size(x: Tensor, smallest: int) -> None:
    """Raises ValueError for images (N, C, H, W) with a side of fewer than ``smallest`` pixels."""
    if min(x.shape[2:]) < smallest:
        raise ValueError(f"this network takes images of at least {smallest} x {smallest} pixels, "
                         f"not {x.shape[2]} x {x.shape[3]}")


class Step(nn.Module):
    """Modules in a row. ``leaves``: its output is left at the side. ``skip``: what first takes a side in.

    ``crops_side``: where sizes differ, the side is cropped to what comes from below, as it must be after
    convolutions without padding (U-Net, Ronneberger et al. 2015); else what comes from below is padded to it.
    """

    def __init__(self, *modules: nn.Module, leaves: bool = False, skip: nn.Module | None = None,
                 crops_side: bool = False):
        super().__init__()
        self.parts, self.leaves, self.skip, self.crops_side = nn.ModuleList(modules), leaves, skip, crops_side

    def forward(self, x: Tensor, emb: Tensor | None, context: Tensor | None) -> Tensor:
        for part in self.parts:
            x = part(x, emb, context) if isinstance(part, Conditioned) else part(x)
        return x

    def take(self, x: Tensor, side: Tensor) -> Tensor:
        """``x`` from below, fitted to the side's size (or the side to its), joined with ``side``."""
        if self.crops_side:
            return self.skip(x, crop(side, x.shape[2:]))
        return self.skip(fit(x, side.shape[2:]), side)


class EncoderDecoder(nn.Module):
    """Encoder, middle, decoder and head over the contract of ``variants``.

    Sides are taken last in, first out; a side that nobody takes is an error of the builder. ``smallest`` is
    the side length in pixels below which an image cannot be halved as often as the encoder does: ``forward``
    raises ValueError for one.
    """

    def __init__(self,
        encoder: Iterable[Step],
        middle: Iterable[nn.Module],
        decoder: Iterable[Step],
        head: nn.Module,
        embedding: nn.Module | None = None,   # embedding(t, context) -> (N, D), for every Conditioned part.
        smallest: int = 1,
        resize: bool = False,                 # Interpolate an output of another size to the image's?
        exits: EarlyExits | None = None,           # Heads after some of the decoder's steps, by which images may leave.
    ):
        super().__init__()
        self.embedding = embedding
        self.encoder = nn.ModuleList(encoder)
        self.middle = Step(*middle)
        self.decoder = nn.ModuleList(decoder)
        self.head = head
        self.smallest, self.resize, self.exits = smallest, resize, exits
        left, taken = (sum(map(bool, flags)) for flags in (
            [step.leaves for step in self.encoder], [step.skip is not None for step in self.decoder]))
        assert left == taken, f"{left} sides are left and {taken} taken"

    def forward(self, x: Tensor, t: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        check_size(x, self.smallest)
        size = x.shape[2:]
        emb = self.embedding(t, context) if self.embedding is not None else None
        sides = []
        for step in self.encoder:
            x = step(x, emb, context)
            if step.leaves:
                sides.append(x)
        x = self.middle(x, emb, context)
        leaving = self.exits.begin(size) if self.exits is not None else None
        for i, step in enumerate(self.decoder):
            if step.skip is not None:
                x = step.take(x, sides.pop())
            x = step(x, emb, context)
            if leaving is not None:
                gone, (x, emb, context, sides) = leaving.at(i, x, emb, context, sides)
                if gone:
                    return leaving.output
        y = enlarge(self.head(x), size) if self.resize else self.head(x)
        return y if leaving is None else leaving.end(y)
