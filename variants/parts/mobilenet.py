"""A U-Net on MobileNetV2: its encoder of inverted residuals, and as many of them in the decoder as levels."""

from __future__ import annotations

from torch import nn

from variants.parts.blocks import activation
from variants.parts.encoder_decoder import EncoderDecoder, Step
from variants.parts.light import InvertedResidual
from variants.parts.normalization import normalization
from variants.parts.resampling import upsample
from variants.parts.skips import ConcatSkip

# MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381, Table 2): expansion, channels, blocks, stride of the first.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
STEM, TOP = 32, 1280
LEVELS = ((0,), (1,), (2,), (3, 4))                  # stages of each level that emits a skip, at strides 2 to 16
MIDDLE = (5, 6)


class MobileNetV2UNet(EncoderDecoder):
    """(N, in_channels, H, W) -> (N, out_channels, H / 2, W / 2): the first convolution's stride is not undone.

    The decoder's levels have the skips' channels; the last two convolutions have none between.
    """

    def __init__(self,
        in_channels  = 3,
        out_channels = 1,
        expansion    = 6,            # Of the decoder's inverted residuals.
        mid_channels = 3,            # Between the last two convolutions.
    ):
        def block(a: int, b: int, factor: int, stride: int = 1) -> InvertedResidual:
            return InvertedResidual(a, b, None, "batch", "relu6", expansion=factor, stride=stride)

        def stage(i: int, enters: int) -> list[nn.Module]:
            factor, out_channels, count, stride = STAGES[i]
            return [block(enters if k == 0 else out_channels, out_channels, factor, stride if k == 0 else 1)
                    for k in range(count)]

        channels = [STEM, *(stage[1] for stage in STAGES)]                        # what enters stage i
        stem = [nn.Conv2d(in_channels, STEM, 3, 2, padding=1, bias=False), normalization("batch", STEM),
                activation("relu6")]
        encoder = [Step(*(stem if 0 in level else []), *(b for i in level for b in stage(i, channels[i])),
                        emits_skip=True) for level in LEVELS]
        middle = [*(b for i in MIDDLE for b in stage(i, channels[i])), nn.Conv2d(channels[-1], TOP, 1, bias=False)]
        decoder, below = [], TOP
        for level in reversed(LEVELS):
            merged = channels[level[-1] + 1]
            decoder += [Step(upsample("transposed_conv", below, merged, kernel_size=4)),
                        Step(block(2 * merged, merged, expansion), skip=ConcatSkip(merged, merged))]
            below = merged
        head = nn.Sequential(nn.Conv2d(below, mid_channels, 1), nn.Conv2d(mid_channels, out_channels, 1), nn.Sigmoid())
        super().__init__(encoder, middle, decoder, head)
