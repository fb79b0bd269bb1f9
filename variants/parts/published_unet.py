"""The U-Net with the details in which published ones differ from it, for the presets and a few variants."""

from __future__ import annotations

from torch import nn

from variants.parts.blocks import activation
from variants.parts.normalization import normalization
from variants.parts.resampling import KEEPS_CHANNELS, upsample
from variants.parts.sizes import scaled_channels
from variants.parts.skips import SKIPS
from variants.parts.unet import BLOCKS, UNet, factory


def present(*layers: nn.Module) -> list[nn.Module]:
    """Return those layers that do something."""
    return [layer for layer in layers if not isinstance(layer, nn.Identity)]


def smallest_side(levels: int, lost: int) -> int:
    """Return the side in pixels of the smallest image that keeps a map at every level and at the end.

    ``lost`` pixels of a side are what the convolutions of one level cut off: 0 where they are padded.
    """
    def remaining(side: int) -> int:
        for _ in range(levels - 1):
            side = (side - lost) // 2
        side -= lost
        for _ in range(levels - 1):
            side = 2 * side - lost if side > 0 else side
        return side

    side = 2 ** (levels - 1)
    while remaining(side) < 1:
        side += 1
    return side


class PublishedUNet(UNet):
    """Build a U-Net with a published network's details; its other arguments are those of :class:`UNet`.

    Each default is what :class:`UNet` does. Raises ValueError as UNet does.
    """

    def __init__(self, *arguments,
        bottleneck       = None,     # As block, for the last level; None = the same.
        decoder_block    = None,     # As block, for the decoder; None = the same.
        decoder_channels = None,     # Channels that each decoder level makes; None = the level's own.
        up_channels      = None,     # Channels that come up to each decoder level; None = the same.
        block_options    = None,     # More arguments of every named block: padding, conv_bias, order, ...
        decoder_options  = None,     # The same, of the decoder's blocks only.
        stem             = None,     # A 3x3 convolution before the blocks? None = if pre-activated.
        first_options    = None,     # As block_options, of the first block; it then takes the image as it is.
        level_dropout    = None,     # A probability for each level, at its end and before its skip.
        skip             = "concat",
        skip_options     = None,     # More arguments of the named skip: skip_first, psi_norm, ...
        crops_skip       = False,    # Crop a skip to what comes up, as valid convolutions need? Else pad that.
        up_options       = None,     # More arguments of the upsampling: kernel_size, align_corners.
        up_norm          = "none",   # After the upsampling.
        up_act           = "none",   # After that.
        head_norm        = None,     # Norm and activation before the last convolution? None = if pre-activated.
        head_kernel      = 1,        # Of the last convolution.
        head_act         = "none",   # After it: none | sigmoid
        **options,                   # UNet's.
    ):
        self.other_blocks = {"bottleneck": ("bottleneck", bottleneck), "decoder": ("decoder_block", decoder_block)}
        self.made_channels, self.up_channels = decoder_channels, up_channels
        self.more_options, self.decoder_options = block_options or {}, decoder_options or {}
        self.stem, self.first_options, self.level_dropout = stem, first_options, level_dropout
        self.up_options, self.up_norm, self.up_act = up_options or {}, up_norm, up_act
        self.head_norm, self.head_kernel, self.head_act = head_norm, head_kernel, head_act
        super().__init__(*arguments, skip=factory("skip", skip, SKIPS, skip_options or {}), **options)
        for step in self.decoder:
            step.crops_skip = crops_skip
        lost = 2 * self.num_blocks * self.more_options.get("num_convs", 2) * (1 - self.more_options.get("padding", 1))
        self.smallest = smallest_side(self.bottom + 1, lost)
        multiple = self.sizes["channels"].multiple
        self.sizes = {**scaled_channels(multiple, channels=self.channels, decoder_channels=decoder_channels,
                                        up_channels=up_channels), **self.sizes}

    # The methods of UNet, with the details.

    def encoder_blocks(self, level: int) -> list[nn.Module]:
        probability = self.level_dropout[level] if self.level_dropout else 0
        return [*super().encoder_blocks(level), *([nn.Dropout(probability)] if probability else [])]

    def make_stem(self) -> list[nn.Module]:
        has_stem = self.preactivated and self.first_options is None if self.stem is None else self.stem
        return [nn.Conv2d(self.in_channels, self.channels[0], 3, padding=1)] if has_stem else []

    def make_blocks(self, part: str, level: int, in_channels: int, out_channels: int, **first) -> list[nn.Module]:
        first = {**first, **(self.first_options or {})} if part != "decoder" and level == 0 else first
        return super().make_blocks(part, level, in_channels, out_channels, **first)

    def make_block(self, part: str, in_channels: int, out_channels: int, **options) -> nn.Module:
        kind, block = self.other_blocks.get(part, ("block", None))
        more = self.decoder_options if part == "decoder" else {}
        make = factory(kind, block or self.block, BLOCKS, {**self.block_options, **self.more_options, **more})
        return make(in_channels, out_channels, self.emb_dim, **options)

    def rising_channels(self, level: int) -> int:
        own = self.up_channels and self.up not in KEEPS_CHANNELS
        return self.up_channels[level] if own else super().rising_channels(level)

    def decoder_channels(self, level: int) -> int:
        return self.made_channels[level] if self.made_channels and level < self.bottom else self.channels[level]

    def make_upsampling(self, in_channels: int, out_channels: int) -> list[nn.Module]:
        after = [normalization(self.up_norm, out_channels), activation(self.up_act)]
        return [upsample(self.up, in_channels, out_channels, **self.up_options), *present(*after)]

    def make_head(self) -> nn.Sequential:
        channels = self.decoder_channels(0)
        has_norm = self.preactivated if self.head_norm is None else self.head_norm
        before = [normalization(self.norm, channels), activation(self.act)] if has_norm else []
        last = nn.Conv2d(channels, self.out_channels, self.head_kernel, padding=self.head_kernel // 2)
        return nn.Sequential(*before, last, *present(activation(self.head_act)))

    def module_paths(self) -> dict[str, list[str]]:
        """Return where the parts of each level are in the state dict, level 0 first, for tables that rename its keys.

        ``block`` the first block of each encoder level and, last, of the bottleneck; ``up``, ``skip`` and
        ``decoder`` (its first block) of each decoder level; ``head`` the last convolution alone.
        """
        blocks = [i for i, step in enumerate(self.encoder) if step.emits_skip]
        ups = [2 * (len(blocks) - 1 - i) for i in range(len(blocks))]             # the decoder starts at the bottom
        head = next(i for i, layer in enumerate(self.head) if isinstance(layer, nn.Conv2d))
        return {"block": [f"encoder.{i}.parts.0" for i in blocks] + ["middle.parts.0"],
                "up": [f"decoder.{i}.parts" for i in ups], "skip": [f"decoder.{i + 1}.skip" for i in ups],
                "decoder": [f"decoder.{i + 1}.parts.0" for i in ups], "head": [f"head.{head}"]}
