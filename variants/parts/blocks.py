"""The convolution blocks of a U: plain and residual, conditioned on a time step in one of several ways."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from variants.parts.encoder_decoder import Conditioned
from variants.parts.normalization import normalization

ACTIVATIONS = {"silu": nn.SiLU, "relu": nn.ReLU, "gelu": nn.GELU, "elu": nn.ELU, "relu6": nn.ReLU6,
               "sigmoid": nn.Sigmoid, "none": nn.Identity}
ORDERS = ("norm_act", "act_norm")
TIME_CONDITIONING = ("add", "scale_shift", "add_before_norm", "ada_zero")


RESAMPLE = {None: nn.Identity, "down": partial(nn.AvgPool2d, 2),
            "up": partial(nn.Upsample, scale_factor=2, mode="nearest")}


def activation(kind: str) -> nn.Module:
    """Raises ValueError for a kind not in ``ACTIVATIONS``."""
    if kind not in ACTIVATIONS:
        raise ValueError(f"unknown activation {kind!r} (known: {', '.join(ACTIVATIONS)})")
    return ACTIVATIONS[kind]()


class Modulation(nn.Module):
    """Modulate features by a condition vector, between a norm and its activation.

    ``add``: h + b(emb), an added bias. ``add_before_norm``: the same in front of the norm, straight after the
    convolution (DDPM's published code). ``scale_shift``: h * (1 + s(emb)) + b(emb), also called FiLM
    (Perez et al. 2017, arXiv:1709.07871) or AdaGN (ADM, Dhariwal & Nichol 2021, Eq. 6). ``ada_zero``:
    scale_shift and a gate g(emb) on the block's residual branch, all of them zero at the start (adaLN-Zero of
    DiT, Peebles & Xie 2022, arXiv:2212.09748, Sec. 3.2, with this block's norm in place of the layer norm).

    Raises ValueError for an unknown kind, and for ``ada_zero`` unless the block says that it is ``gated``:
    that it has a residual branch and multiplies it by :meth:`gate`.
    """

    def __init__(self, emb_dim: int, channels: int, kind: str, gated: bool = False):
        super().__init__()
        if kind not in TIME_CONDITIONING:
            raise ValueError(f"unknown time_conditioning {kind!r} (known: {', '.join(TIME_CONDITIONING)})")
        if kind == "ada_zero" and not gated:
            raise ValueError("time_conditioning='ada_zero' gates a residual branch, which this block does not have "
                             "everywhere: take block='residual'")
        self.kind, self.scales = kind, kind in ("scale_shift", "ada_zero")
        self.project = nn.Sequential(nn.SiLU(), nn.Linear(emb_dim, channels * (2 if self.scales else 1)))
        self.to_gate = nn.Sequential(nn.SiLU(), nn.Linear(emb_dim, channels)) if kind == "ada_zero" else None
        if kind == "ada_zero":
            for layer in (self.project[1], self.to_gate[1]):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        projected = self.project(emb)[:, :, None, None]                           # (N, C or 2C, 1, 1)
        if not self.scales:
            return h + projected
        scale, shift = projected.chunk(2, dim=1)
        return h * (1 + scale) + shift

    def gate(self, h: Tensor, emb: Tensor) -> Tensor:
        """Return ``h`` (N, C, H, W), the end of a residual branch, times its gate; as it is where there is none."""
        return h if self.to_gate is None else h * self.to_gate(emb)[:, :, None, None]

    def around(self, norm: nn.Module, h: Tensor, emb: Tensor) -> Tensor:
        """Return ``h`` normalised and modulated, in this kind's order."""
        return norm(self(h, emb)) if self.kind == "add_before_norm" else self(norm(h), emb)


class PlainBlock(Conditioned):
    """Two 3x3 convolutions, each followed by norm and activation (U-Net, Ronneberger et al. 2015, padded)."""

    preactivated = False                                                          # what enters is ready to be convolved

    def __init__(self,
        in_channels,
        out_channels,
        emb_dim           = None,    # Length of the condition vector; None = no condition.
        norm              = "group",
        activation_kind   = "silu",
        dropout           = 0.0,     # Between the two convolutions.
        time_conditioning = "add",
        *,
        padding           = 1,       # 0: the original's "valid" convolutions; each takes a pixel off every side.
        conv_bias         = True,    # milesial's U-Net has none before its batch norm.
        order             = "norm_act",  # norm_act | act_norm (jvanvugt's U-Net: convolution, ReLU, batch norm)
        mid_ratio         = None,    # Channels between the convolutions per channel in; None = out_channels.
        num_convs         = 2,       # Later stages of VGG16 have 3 (Simonyan & Zisserman 2014, Table 1, D).
        last_dropout      = 0.0,     # After the second convolution (UNet++'s Keras release).
        separable         = False,   # Convolutions depthwise, norm, activation, 1x1? (MobileNets, Howard et al. 2017)
    ):
        super().__init__()
        if order not in ORDERS:
            raise ValueError(f"unknown order {order!r} (known: {', '.join(ORDERS)})")
        early, late = (activation_kind, "none") if order == "act_norm" else ("none", activation_kind)
        mid_channels = out_channels if mid_ratio is None else int(in_channels * mid_ratio)

        def conv(a: int, b: int) -> nn.Module:
            if not separable:
                return nn.Conv2d(a, b, 3, padding=padding, bias=conv_bias)
            return nn.Sequential(nn.Conv2d(a, a, 3, padding=padding, bias=conv_bias, groups=a), normalization(norm, a),
                                 activation(activation_kind), nn.Conv2d(a, b, 1, bias=conv_bias))

        self.conv1 = conv(in_channels, mid_channels)
        self.norm1 = normalization(norm, mid_channels)
        self.conv2 = conv(mid_channels, out_channels)
        self.norm2 = normalization(norm, out_channels)
        self.early_act, self.act = activation(early), activation(late)            # before and after the norm
        self.more = nn.ModuleList(nn.Sequential(conv(out_channels, out_channels), activation(early),
                                                normalization(norm, out_channels), activation(late))
                                  for _ in range(2, num_convs))
        self.drop, self.last_drop = nn.Dropout(dropout), nn.Dropout(last_dropout)
        self.modulation = Modulation(emb_dim, mid_channels, time_conditioning) if emb_dim else None

    def forward(self, x: Tensor, emb: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        h = self.early_act(self.conv1(x))                                         # (N, mid, H, W)
        h = self.norm1(h) if self.modulation is None else self.modulation.around(self.norm1, h, emb)
        h = self.drop(self.act(h))
        h = self.act(self.norm2(self.early_act(self.conv2(h))))                   # (N, out, H, W)
        for conv in self.more:
            h = conv(h)
        return self.last_drop(h)                                                  # (N, out, H, W)


class ResidualBlock(Conditioned):
    """Norm, activation, 3x3 convolution, twice, plus a shortcut that is projected by 1x1 where channels change.

    The pre-activated unit of ResUNet (Zhang et al. 2017, arXiv:1711.10684, Fig. 1b), which with a time
    step is also DDPM's block (Ho et al. 2020, App. B). It can halve or double the size on its way, in both
    branches, before the first convolution (BigGAN, Brock et al. 2018, Fig. 15; ADM, Sec. 3).
    """

    preactivated = True

    def __init__(self,
        in_channels,
        out_channels,
        emb_dim           = None,    # Length of the condition vector; None = no condition.
        norm              = "group",
        activation_kind   = "silu",
        dropout           = 0.0,     # Before the second convolution.
        time_conditioning = "add",
        norm_eps          = 1e-5,
        resample          = None,    # down (average pooling) | up (nearest), in both branches; None = keeps the size.
        zero_last         = False,   # Start the second convolution at zero, so that the block starts as its shortcut?
                                     # ada_zero's gate does that by itself; were both zero, neither would ever learn.
        stride            = 1,       # 2: the first convolution halves the size (ResUNet, Zhang et al. 2017, Table 1).
        preactivate       = True,    # False: what enters is convolved as it is (ResUNet's first block).
        project           = False,   # Convolve the shortcut even where channels and size stay?
        shortcut_kernel   = 1,       # 3 in rishikksh20's ResUNet.
        shortcut_norm     = "none",  # After the shortcut's convolution.
    ):
        super().__init__()
        self.norm1 = normalization(norm if preactivate else "none", in_channels, norm_eps)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, stride=stride)
        self.norm2 = normalization(norm, out_channels, norm_eps)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.act = activation(activation_kind)
        self.drop = nn.Dropout(dropout)
        self.modulation = Modulation(emb_dim, out_channels, time_conditioning, gated=True) if emb_dim else None
        self.first_act = self.act if preactivate else nn.Identity()
        self.shortcut = nn.Identity()
        if project or stride > 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, shortcut_kernel, stride, shortcut_kernel // 2)
            if shortcut_norm != "none":
                self.shortcut = nn.Sequential(self.shortcut, normalization(shortcut_norm, out_channels))
        self.resample = RESAMPLE[resample]()
        if zero_last and not (self.modulation and self.modulation.to_gate):
            nn.init.zeros_(self.conv2.weight)
            nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor, emb: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        h = self.conv1(self.resample(self.first_act(self.norm1(x))))                    # (N, out, H', W')
        h = self.norm2(h) if self.modulation is None else self.modulation.around(self.norm2, h, emb)
        h = self.conv2(self.drop(self.act(h)))
        h = h if self.modulation is None else self.modulation.gate(h, emb)
        return h + self.shortcut(self.resample(x))                                # (N, out, H', W')


BLOCKS = {"plain": PlainBlock, "residual": ResidualBlock}
