"""Implicit image: a small network whose parameters score distillation optimises instead of pixels."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from einops import einsum, rearrange
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Network:
    """Hyperparameters of `ImplicitImage`. The defaults are the paper's.

    Attributes:
        features: number of random frequencies; each has a sine and a cosine.
        scale: standard deviation of the frequencies, in periods across the canvas.
        width: channels of the hidden layers.
        layers: number of hidden layers.
    """

    features: int = 128
    scale: float = 10.0
    width: int = 256
    layers: int = 3

    def __post_init__(self) -> None:
        """Raises ValueError: `features`, `width` or `layers` is below 1, or `scale` is not positive."""
        for name, minimum in (("features", 1), ("width", 1), ("layers", 1), ("scale", 1e-9)):
            if (value := getattr(self, name)) < minimum:
                raise ValueError(f"network: {name} (={value}) is too small; expected at least {minimum}")


PAPER = Network()


class ImplicitImage(nn.Module):
    """Image x = g(theta): an MLP of 1 x 1 convolutions maps Fourier features of pixel positions to gray values.

    Fourier features: Tancik et al., arXiv 2006.10739. Each hidden layer is convolution, ReLU and batch norm over the
    pixels, as in Diffusion Illusions (Burgert et al., arXiv 2312.03817). In evaluation mode the norms use running means
    of about the last ten steps. Parameters and computation are float32 at any precision of the run.

    Args:
        canvas: rows and columns.
        network: hyperparameters.
        generator: source of the frequencies and the initial parameters.
    """

    features: Tensor

    def __init__(self, canvas: tuple[int, int], network: Network, generator: torch.Generator) -> None:
        super().__init__()
        with torch.device("cpu"):
            frequencies = torch.randn(2, network.features, generator=generator, dtype=torch.float32) * network.scale
            rows, columns = (torch.arange(n, dtype=torch.float32) / n for n in canvas)
            positions = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
            phase = math.tau * rearrange(einsum(positions, frequencies, "p h w, p f -> f h w"), "f h w -> 1 f h w")
            self.register_buffer("features", torch.cat([phase.sin(), phase.cos()], 1), persistent=False)
            sizes = [2 * network.features, *[network.width] * network.layers]
            hidden: list[nn.Module] = []
            for inputs, outputs in itertools.pairwise(sizes):
                norm = nn.BatchNorm2d(outputs, dtype=torch.float32)
                hidden += [_convolution(inputs, outputs, generator), nn.ReLU(), norm]
            self.model = nn.Sequential(*hidden, _convolution(sizes[-1], 1, generator), nn.Sigmoid())

    def forward(self) -> Tensor:
        """Return the image, (1, 1, H, W) in (0, 1)."""
        with torch.autocast(self.features.device.type, enabled=False):
            image: Tensor = self.model(self.features)
        return image


def _convolution(inputs: int, outputs: int, generator: torch.Generator) -> nn.Conv2d:
    """Create a 1 x 1 convolution with torch's default initialisation, drawn from a generator."""
    layer = nn.Conv2d(inputs, outputs, kernel_size=1, device="meta", dtype=torch.float32).to_empty(device="cpu")
    bound = inputs**-0.5
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    return layer
