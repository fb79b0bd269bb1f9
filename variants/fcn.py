"""FCN: an encoder whose score maps at strides 8, 16 and 32 are upsampled and summed; no decoder to speak of."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from variants.parts.blocks import PlainBlock
from variants.parts.embedding import ConditionEmbedding

CHANNEL_MULT = (1, 2, 4, 8, 8)      # VGG16's 64, 128, 256, 512, 512
SKIP_STRIDES = {8: (8, 16), 16: (16,), 32: ()}   # finest output stride -> strides whose scores are added


class FCN(nn.Module):
    """Fully convolutional network (Long et al. 2015, arXiv:1411.4038), over the contract of ``variants``.

    Sizes are rounded up when halved, so an image of any size keeps at least one score.
    """

    def __init__(self,
        in_channels,
        out_channels,
        *,
        width       = 32,           # Channels of the first stage.
        stride      = 8,            # 8, 16 or 32: FCN-8s, FCN-16s, FCN-32s.
        norm        = "group",
        act         = "relu",
        dropout     = 0.0,          # Before the score at stride 32.
        time        = False,        # Is the network told a time step?
        context_dim = None,         # Channels of a context token, pooled and added to the time embedding.
    ):
        super().__init__()
        if stride not in SKIP_STRIDES:
            raise ValueError(f"stride must be one of {', '.join(map(str, SKIP_STRIDES))}, not {stride!r}")
        emb_dim = 4 * width if time or context_dim else None
        self.embedding = ConditionEmbedding(emb_dim, width, time, context_dim) if emb_dim else None
        channels = [width * mult for mult in CHANNEL_MULT]
        self.stages = nn.ModuleList(PlainBlock(a, b, emb_dim, norm, act)
                                    for a, b in zip([in_channels, *channels], channels))
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.drop = nn.Dropout(dropout)
        self.scores = nn.ModuleDict({str(2 ** (i + 1)): nn.Conv2d(c, out_channels, 1)
                                     for i, c in enumerate(channels) if 2 ** (i + 1) in (*SKIP_STRIDES[stride], 32)})

    def forward(self, x: Tensor, t: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        size = x.shape[2:]
        emb = self.embedding(t, context) if self.embedding is not None else None
        scored = []
        for i, stage in enumerate(self.stages):
            x = self.pool(stage(x, emb))                                          # stride 2^(i+1)
            if (stride := str(2 ** (i + 1))) in self.scores:
                scored.append(self.scores[stride](self.drop(x) if stride == "32" else x))
        y = scored.pop()                                                          # (N, out, H / 32, W / 32)
        while scored:
            finer = scored.pop()
            y = finer + F.interpolate(y, finer.shape[2:], mode="bilinear")
        return F.interpolate(y, size, mode="bilinear")                            # (N, out, H, W)


def build(*, in_channels, out_channels, image_size, width=32, time=False, context_dim=None, **options) -> FCN:
    """An FCN-8s of ``width``; ``options`` are the arguments of :class:`FCN`. Takes any ``image_size``."""
    return FCN(in_channels, out_channels, width=width, time=time, context_dim=context_dim, **options)
