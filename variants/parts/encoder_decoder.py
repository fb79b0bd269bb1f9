"""The one encoder-decoder: encoder steps that emit skips, decoder steps that merge them.

Everything U-shaped in this project is a list of steps given to :class:`EncoderDecoder`: which steps emit a skip
(each level's, or each block's), what resamples, what a step is made of. The encoder-decoder only runs them in order.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

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
    """Raise ValueError for images (N, C, H, W) with a side of fewer than ``smallest`` pixels."""
    if min(x.shape[2:]) < smallest:
        raise ValueError(f"this network takes images of at least {smallest} x {smallest} pixels, "
                         f"not {x.shape[2]} x {x.shape[3]}")


class Step(nn.Module):
    """Run modules in a row; ``emits_skip``: keep the output for the decoder; ``skip``: merge an encoder's output first.

    ``crops_skip``: where sizes differ, the skip is cropped to what comes from below, as it must be after
    convolutions without padding (U-Net, Ronneberger et al. 2015); else what comes from below is padded to it.
    """

    def __init__(self, *modules: nn.Module, emits_skip: bool = False, skip: nn.Module | None = None,
                 crops_skip: bool = False):
        super().__init__()
        self.parts, self.skip = nn.ModuleList(modules), skip
        self.emits_skip, self.crops_skip = emits_skip, crops_skip

    def forward(self, x: Tensor, emb: Tensor | None, context: Tensor | None) -> Tensor:
        for part in self.parts:
            x = part(x, emb, context) if isinstance(part, Conditioned) else part(x)
        return x

    def merge_skip(self, x: Tensor, skip: Tensor) -> Tensor:
        """Return ``x`` (N, C, H, W) from below joined with ``skip``, one of them first fitted to the other's size."""
        if self.crops_skip:
            return self.skip(x, crop(skip, x.shape[2:]))
        return self.skip(fit(x, skip.shape[2:]), skip)


class EncoderDecoder(nn.Module):
    """Run encoder, middle, decoder and head over the contract of ``variants``.

    Skips are merged last in, first out; one that no step merges is an error of the builder. ``smallest`` is
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
    ):
        super().__init__()
        self.embedding = embedding
        self.encoder = nn.ModuleList(encoder)
        self.middle = Step(*middle)
        self.decoder = nn.ModuleList(decoder)
        self.head = head
        self.smallest = smallest
        emitted = sum(step.emits_skip for step in self.encoder)
        merged = sum(step.skip is not None for step in self.decoder)
        assert emitted == merged, f"{emitted} skips are emitted and {merged} merged"

    def forward(self, x: Tensor, t: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        check_size(x, self.smallest)
        emb = self.embedding(t, context) if self.embedding is not None else None
        skips = []
        for step in self.encoder:
            x = step(x, emb, context)
            if step.emits_skip:
                skips.append(x)
        return self.decode(self.middle(x, emb, context), emb, context, skips)

    def decode(self, x: Tensor, emb: Tensor | None, context: Tensor | None, skips: list[Tensor]) -> Tensor:
        """Return the output (N, out, H, W) from the middle's ``x`` and the encoder's ``skips``, deepest last."""
        for step in self.decoder:
            if step.skip is not None:
                x = step.merge_skip(x, skips.pop())
            x = step(x, emb, context)
        return self.head(x)
