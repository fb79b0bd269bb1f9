"""Images as rows of tokens: the sizes that patches divide, the transformer block, the way back to pixels."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from variants.parts.attention import attend, check_heads
from variants.parts.normalization import LayerNorm


def fit_patches(x: Tensor, patch_size: int, pad: bool = True) -> Tensor:
    """``x`` (N, C, H, W) padded with zeros at the bottom and right until ``patch_size`` divides its sides.

    With ``pad=False`` raises ValueError, saying which sizes work, where there is something to pad.
    """
    height, width = x.shape[2:]
    rows, columns = -height % patch_size, -width % patch_size
    if not (rows or columns):
        return x
    if not pad:
        raise ValueError(f"this network takes images whose sides are multiples of {patch_size} pixels, "
                         f"not {height} x {width}")
    return F.pad(x, (0, columns, 0, rows))


def grid_of(image_size, patch_size: int, pad: bool = True) -> tuple[int, int]:
    """Rows and columns of patches of an image of ``image_size`` (int or (H, W)). Raises as :func:`fit_patches`."""
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if not pad and (height % patch_size or width % patch_size):
        raise ValueError(f"an image of {height} x {width} pixels is not divided by patches of {patch_size}; "
                         f"its sides must be multiples of {patch_size}")
    return -(-height // patch_size), -(-width // patch_size)


def unpatch(x: Tensor, grid: tuple[int, int], patch_size: int) -> Tensor:
    """(N, rows columns, p p C), a patch's pixels row by row with the channel last -> (N, C, rows p, columns p)."""
    x = x.unflatten(2, (patch_size, patch_size, -1)).unflatten(1, grid)           # (N, rows, columns, p, p, C)
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


class TokenBlock(nn.Module):
    """Self-attention and MLP over tokens, each normalised before and added (ViT, Dosovitskiy et al. 2021)."""

    def __init__(self,
        channels,
        num_heads,
        mlp_ratio = 4.0,             # Hidden units of the MLP per channel.
        *,
        norm_eps  = 1e-5,            # DiT: 1e-6.
        affine    = True,            # Do the norms learn scale and shift? DiT's adaptive blocks regress them instead.
        qkv_bias  = False,           # DiT: True.
        gelu      = "none",          # none (by the error function) | tanh (its approximation, as in DiT)
    ):
        super().__init__()
        check_heads(channels, num_heads)
        hidden = int(channels * mlp_ratio)
        self.num_heads = num_heads
        self.norm1 = LayerNorm(channels, eps=norm_eps, elementwise_affine=affine)
        self.qkv, self.out = nn.Linear(channels, 3 * channels, bias=qkv_bias), nn.Linear(channels, channels)
        self.norm2 = LayerNorm(channels, eps=norm_eps, elementwise_affine=affine)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.GELU(gelu), nn.Linear(hidden, channels))

    def attention(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=2)                                     # 3 x (N, L, C), all heads of q first
        return self.out(attend(q, k, v, self.num_heads))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))                                     # (N, L, C)
        return x + self.mlp(self.norm2(x))
