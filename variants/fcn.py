"""FCN: an encoder whose score maps at strides 8, 16 and 32 are upsampled and summed; no decoder to speak of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from variants.parts.blocks import PlainBlock
from variants.parts.embedding import ConditionEmbedding
from variants.parts.encoder_decoder import check_size
from variants.parts.sizes import embedding_width, scaled_channels

CHANNEL_MULT = (1, 2, 4, 8, 8)      # VGG16's 64, 128, 256, 512, 512
SKIP_STRIDES = {8: (8, 16), 16: (16,), 32: ()}   # finest output stride -> strides whose scores are added
FC_KERNEL = 7                       # VGG16's first fully connected layer sees 7 x 7 maps
UPS = ("bilinear", "transposed_conv")


def bilinear_kernel(size: int) -> Tensor:
    """(size, size) weights that a transposed convolution of stride ``size`` / 2 interpolates with."""
    distance = (torch.arange(size) - (size - 1) / 2).abs()
    line = 1 - distance / (size / 2)
    return line[:, None] * line


class Enlarge(nn.ConvTranspose2d):
    """Learned upsampling by ``factor``, each class from all, that starts as interpolation (Long et al., Sec. 3.3)."""

    def __init__(self, classes: int, factor: int):
        super().__init__(classes, classes, 2 * factor, stride=factor, bias=False)
        self.factor = factor
        with torch.no_grad():
            self.weight.zero_()[range(classes), range(classes)] = bilinear_kernel(2 * factor)


def window(x: Tensor, start: int, size: tuple[int, int]) -> Tensor:
    """``size`` pixels of ``x`` (N, C, H, W) from ``start`` on both axes; zeros where it has none."""
    rows, columns = start + size[0] - x.shape[2], start + size[1] - x.shape[3]
    return F.pad(x, (-start, columns, -start, rows))


class FCN(nn.Module):
    """Fully convolutional network (Long et al. 2015, arXiv:1411.4038), over the contract of ``variants``.

    Sizes are rounded up when halved, so an image of any size keeps at least one score.
    """

    def __init__(self,
        in_channels,
        out_channels,
        *,
        width         = 32,         # Channels of the first stage.
        stride        = 8,          # 8, 16 or 32: FCN-8s, FCN-16s, FCN-32s.
        norm          = "group",
        act           = "relu",
        dropout       = 0.0,        # Before the score at stride 32; after each fully connected layer.
        time          = False,      # Does the network take a time step?
        context_dim   = None,       # Channels of a context token, pooled and added to the time embedding.
        num_convs     = (2,) * 5,   # Convolutions of each stage; VGG16 has (2, 2, 3, 3, 3).
        fc_channels   = None,       # Channels of two layers before the score, 7x7 and 1x1 (VGG16's); None = no layers.
        image_padding = 0,          # Zeros around the image; published 100, one of them the first convolution's own.
        up            = "bilinear", # bilinear | transposed_conv (learned, cropped where pixel centres meet)
        score_scale   = None,       # stride -> factor of the features that are scored; None = 1 for all.
        channels      = None,       # Channels of the five stages; None = width * (1, 2, 4, 8, 8), as VGG16's.
    ):
        super().__init__()
        if stride not in SKIP_STRIDES:
            raise ValueError(f"stride must be one of {', '.join(map(str, SKIP_STRIDES))}, not {stride!r}")
        if up not in UPS:
            raise ValueError(f"unknown up {up!r} (known: {', '.join(UPS)})")
        emb_dim = 4 * width if time or context_dim else None
        self.embedding = ConditionEmbedding(emb_dim, width, time, context_dim) if emb_dim else None
        channels = list(channels or [width * mult for mult in CHANNEL_MULT])
        self.image_padding, self.score_scale = image_padding, score_scale or {}
        # As many pixels as leave FC_KERNEL at stride 32.
        self.smallest = max(1, 32 * (FC_KERNEL - 1) + 1 - 2 * image_padding) if fc_channels else 1
        self.stages = nn.ModuleList(PlainBlock(a, b, emb_dim, norm, act, num_convs=n)
                                    for a, b, n in zip([in_channels, *channels], channels, num_convs))
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.fc = nn.Sequential()
        if fc_channels:
            self.fc.extend([nn.Conv2d(channels[-1], fc_channels, FC_KERNEL), nn.ReLU(), nn.Dropout2d(dropout),
                            nn.Conv2d(fc_channels, fc_channels, 1), nn.ReLU(), nn.Dropout2d(dropout)])
        self.drop = nn.Dropout(0.0 if fc_channels else dropout)
        strides = (*SKIP_STRIDES[stride], 32)
        self.scores = nn.ModuleDict({str(2 ** (i + 1)): nn.Conv2d(c, out_channels, 1)
                                     for i, c in enumerate([*channels[:-1], fc_channels or channels[-1]])
                                     if 2 ** (i + 1) in strides})
        self.ups = nn.ModuleDict()
        if up == "transposed_conv":                                               # to the next finer stride, at last 1
            self.ups.update({str(s): Enlarge(out_channels, s // finer) for finer, s in zip((1, *strides), strides)})
        self.sizes = {**scaled_channels(channels=channels, fc_channels=fc_channels),
                      **embedding_width(self.embedding)}

    def forward(self, x: Tensor, t: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        check_size(x, self.smallest)
        size = x.shape[2:]
        emb = self.embedding(t, context) if self.embedding is not None else None
        x = F.pad(x, (self.image_padding,) * 4) if self.image_padding else x
        scored = []
        for i, stage in enumerate(self.stages):
            x = self.pool(stage(x, emb))                                          # stride 2^(i+1)
            if (stride := 2 ** (i + 1)) == 32:
                x = self.drop(self.fc(x))
            if str(stride) in self.scores:
                scored.append(self.scores[str(stride)](x * self.score_scale.get(stride, 1)))
        if self.ups:
            return self.enlarge(scored, size)
        y = scored.pop()                                                          # (N, out, H / 32, W / 32)
        while scored:
            finer = scored.pop()
            y = finer + F.interpolate(y, finer.shape[2:], mode="bilinear")
        return F.interpolate(y, size, mode="bilinear")                            # (N, out, H, W)

    def enlarge(self, scored: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Scores, finest first, by transposed convolutions to ``size``, each sum where pixel centres coincide.

        ``centre`` is where a map's first pixel has its own, in pixels of the image: (s - 1) / 2 at stride s,
        before the padding; a 7x7 convolution without padding moves it by three pixels of the map, an
        enlargement back by half a kernel less one.
        """
        y, stride = scored.pop(), 32
        centre = (stride - 1) / 2 + (stride * (FC_KERNEL // 2) if len(self.fc) else 0) - self.image_padding
        for up in reversed(list(self.ups.values())):
            y, stride = up(y), stride // up.factor
            centre -= stride * (up.factor - 0.5)
            if scored:
                offset = (centre - ((stride - 1) / 2 - self.image_padding)) / stride
                y = y + window(scored.pop(), int(offset), y.shape[2:])
        return window(y, int(-centre), size)                                      # (N, out, H, W)


def build(*, in_channels, out_channels, image_size, width=32, time=False, context_dim=None, **options) -> FCN:
    """An FCN-8s of ``width``; ``options`` are the arguments of :class:`FCN`. Takes any ``image_size``."""
    return FCN(in_channels, out_channels, width=width, time=time, context_dim=context_dim, **options)
