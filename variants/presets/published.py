"""The diffusion U-Net with the details in which published ones differ from it."""

from __future__ import annotations

from variants.parts.attention import SelfAttention, SpatialTransformer
from variants.parts.diffusion_unet import DiffusionUNet


class PublishedDiffusionUNet(DiffusionUNet):
    """Build a diffusion U-Net with a published network's details; its other arguments are DiffusionUNet's.

    Each default is what :class:`DiffusionUNet` does. Raises ValueError as it does.
    """

    def __init__(self, *arguments,
        stem_channels     = None,           # Channels of the input convolution; None = those of level 0.
        norm_eps          = 1e-5,
        num_heads_up      = None,           # Heads of self-attention in the decoder; None = num_heads.
        qkv_order         = "split_first",  # split_first | heads_first
        cut_heads         = False,          # A transformer that heads do not divide: drop the rest? Else widen heads.
        transformer_depth = 1,              # Transformer blocks per attention.
        **options,                          # DiffusionUNet's.
    ):
        self.stem_channels, self.norm_eps, self.num_heads_up = stem_channels, norm_eps, num_heads_up
        self.qkv_order, self.cut_heads, self.transformer_depth = qkv_order, cut_heads, transformer_depth
        super().__init__(*arguments, **options)

    # The methods of DiffusionUNet, with the details.

    def self_attention(self, channels: int, up: bool, **options) -> SelfAttention:
        return super().self_attention(channels, up, qkv_order=self.qkv_order, **options)

    def transformer(self, channels: int, up: bool, **options) -> SpatialTransformer:
        cut = {"head_channels": self.head_channels} if self.cut_heads and self.head_channels else {}
        return super().transformer(channels, up, depth=self.transformer_depth, **cut, **options)

    def heads_of(self, channels: int, up: bool = False) -> int:
        other = up and self.num_heads_up and not self.head_channels
        return self.num_heads_up if other else super().heads_of(channels, up)
