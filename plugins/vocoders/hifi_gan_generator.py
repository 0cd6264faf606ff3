"""Network of HiFi-GAN (Kong et al., arXiv 2010.05646), with the layer names of its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

SLOPE, LAST_SLOPE = 0.1, 0.01
"""Negative slopes of the leaky ReLUs: in the network, and before its last convolution."""


class Generator(nn.Module):
    """Upsamples mel frames to audio samples by transposed convolutions, each followed by the mean of residual blocks.

    Args:
        config: contents of the checkpoint's `config.json`.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        channels = config["upsample_initial_channel"]
        self.conv_pre = nn.Conv1d(config["num_mels"], channels, 7, padding=3)
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        self.blocks_per_stage = len(config["resblock_kernel_sizes"])
        block = PairedBlock if str(config["resblock"]) == "1" else SingleBlock
        for u, k in zip(config["upsample_rates"], config["upsample_kernel_sizes"], strict=True):
            odd = (k - u) % 2  # if odd, cut one more sample at the start than at the end, so that the factor is u
            self.ups.append(nn.ConvTranspose1d(channels, channels // 2, k, u, (k - u) // 2 + odd, output_padding=odd))
            channels //= 2
            shapes = zip(config["resblock_kernel_sizes"], config["resblock_dilation_sizes"], strict=True)
            self.resblocks.extend(block(channels, kernel, dilations) for kernel, dilations in shapes)
        self.conv_post = nn.Conv1d(channels, 1, 7, padding=3)

    def forward(self, log_mel: Tensor) -> Tensor:
        """Map (b, f, t) to (b, 1, n)."""
        x = self.conv_pre(log_mel)
        for stage, up in enumerate(self.ups):
            x = up(functional.leaky_relu(x, SLOPE))
            first = stage * self.blocks_per_stage
            blocks = self.resblocks[first : first + self.blocks_per_stage]
            x = sum(block(x) for block in blocks) / len(blocks)
        return self.conv_post(functional.leaky_relu(x, LAST_SLOPE)).tanh()


class PairedBlock(nn.Module):
    """Residual block of type 1: each dilated convolution is followed by one without dilation."""

    def __init__(self, channels: int, kernel: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(_same(channels, kernel, dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(_same(channels, kernel, 1) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, n) -> (b, c, n)."""
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            x = x + plain(functional.leaky_relu(dilated(functional.leaky_relu(x, SLOPE)), SLOPE))
        return x


class SingleBlock(nn.Module):
    """Residual block of type 2: only dilated convolutions."""

    def __init__(self, channels: int, kernel: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_same(channels, kernel, dilation) for dilation in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, n) -> (b, c, n)."""
        for dilated in self.convs:
            x = x + dilated(functional.leaky_relu(x, SLOPE))
        return x


def _same(channels: int, kernel: int, dilation: int) -> nn.Conv1d:
    return nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=dilation * (kernel - 1) // 2)
