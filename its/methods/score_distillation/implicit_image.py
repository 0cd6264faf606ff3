"""An image that is a small network: what score distillation optimises instead of pixels."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from einops import einsum, rearrange
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Network:
    """Sizes of the network; the defaults are the paper's.

    Attributes:
        features: random frequencies, each of which gives a sine and a cosine.
        scale: their standard deviation, in periods across the canvas: how fine the first details are.
        width: channels of the hidden layers.
        layers: how many of those there are.
    """

    features: int = 128
    scale: float = 10.0
    width: int = 256
    layers: int = 3

    def __post_init__(self) -> None:
        """Raises ValueError: a size below 1, or a scale that is not above 0."""
        for name in ("features", "width", "layers", "scale"):
            if (value := getattr(self, name)) < (1 if name != "scale" else 1e-9):
                raise ValueError(f"network: {name} (={value}) is too small")


PAPER = Network()
"""The paper's sizes."""


class ImplicitImage(nn.Module):
    """x = g(theta): Fourier features of each pixel's place, through an MLP of 1 x 1 convolutions, to one gray value.

    Fourier features: Tancik et al., arXiv 2006.10739. As in Diffusion Illusions (Burgert et al., arXiv 2312.03817),
    every hidden layer is convolution, ReLU, batch norm, whose batch are the pixels. In evaluation mode the norms are
    running means of the last ten steps or so. All of it is float32, whatever precision Lightning runs in.

    Args:
        canvas: rows and columns.
        network: sizes.
        generator: of all random numbers in it.
    """

    features: Tensor

    def __init__(self, canvas: tuple[int, int], network: Network, generator: torch.Generator) -> None:
        super().__init__()
        with torch.device("cpu"):
            frequencies = torch.randn(2, network.features, generator=generator, dtype=torch.float32) * network.scale
            rows, columns = (torch.arange(n, dtype=torch.float32) / n for n in canvas)
            places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
            phase = math.tau * rearrange(einsum(places, frequencies, "p h w, p f -> f h w"), "f h w -> 1 f h w")
            self.register_buffer("features", torch.cat([phase.sin(), phase.cos()], 1), persistent=False)
            sizes = [2 * network.features, *[network.width] * network.layers]
            hidden: list[nn.Module] = []
            for into, out in itertools.pairwise(sizes):
                hidden += [_convolution(into, out, generator), nn.ReLU(), nn.BatchNorm2d(out, dtype=torch.float32)]
            self.model = nn.Sequential(*hidden, _convolution(sizes[-1], 1, generator), nn.Sigmoid())

    def forward(self) -> Tensor:
        """(1, 1, H, W) in (0, 1)."""
        with torch.autocast(self.features.device.type, enabled=False):
            image: Tensor = self.model(self.features)
        return image


def _convolution(into: int, out: int, generator: torch.Generator) -> nn.Conv2d:
    """1 x 1, initialised as torch's are, but from a generator."""
    layer = nn.Conv2d(into, out, kernel_size=1, device="meta", dtype=torch.float32).to_empty(device="cpu")
    bound = into**-0.5
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    return layer
