"""Canny edge detector: turns a picture into an outline drawing, as ControlNets for edges expect.

After J. Canny, "A computational approach to edge detection", IEEE PAMI 8(6), 1986, with thresholds relative to the
picture's strongest gradient.

Shapes used here: b batch, h w rows and columns of a picture.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

SIGMA = 1.4
"""Standard deviation of the Gaussian blur, in pixels."""
FLAT = 1.5 / 255
"""Contrast of a step, in gray, below which a picture counts as constant: bands of 8-bit pictures have no edges."""
LEVELS = 10_000  # of the gradient: equal gradients stay equal whatever the rounding of a device or a contrast
AHEAD = ((0, 1), (1, 1), (1, 0), (1, -1))  # row and column of the next pixel in the four directions of a gradient


def find_edges(picture: Tensor, *, low: float = 0.1, high: float = 0.2) -> Tensor:
    """Find the edges of a picture: thin white lines (1) on black (0).

    Brightness and contrast make no difference, so a picture of noise alone has edges, unless it is nearly constant (see
    `FLAT`). Edges along the frame are not found.

    Args:
        picture: gray (b, h, w) in [0, 1].
        low: share of the strongest gradient above which an edge continues from a pixel above `high`.
        high: share of the strongest gradient above which a pixel is an edge for certain.

    Returns:
        Edges (b, h, w) in float32, on the picture's device.

    Raises:
        ValueError: the picture has other than three dimensions, or not 0 < low <= high <= 1.
    """
    if picture.ndim != 3:
        raise ValueError(f"expected gray pictures (b, h, w), got a tensor of shape {tuple(picture.shape)}")
    if not 0 < low <= high <= 1:
        raise ValueError(f"expected 0 < low <= high <= 1, got low={low} and high={high}")
    rows, columns = _gradient(_blur(picture.float()))
    strength = torch.hypot(rows, columns)
    strongest = strength.amax((1, 2), keepdim=True)
    flat = strongest < FLAT / (SIGMA * math.sqrt(2 * math.pi))  # slope of a blurred step of this contrast
    strength = (strength / strongest.clamp(min=1e-12) * LEVELS).round().masked_fill(flat, 0)
    ridge = _thin(strength, torch.atan2(rows, columns))
    return _connect(ridge & (strength > high * LEVELS), ridge & (strength > low * LEVELS)).float()


def _blur(picture: Tensor) -> Tensor:
    reach = math.ceil(3 * SIGMA)
    offsets = torch.arange(-reach, reach + 1, device=picture.device)
    kernel = (-offsets.square() / (2 * SIGMA**2)).exp()
    kernel = kernel / kernel.sum()
    padded = functional.pad(picture[:, None], (reach,) * 4, mode="replicate")
    return functional.conv2d(functional.conv2d(padded, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))[:, 0]


def _gradient(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Return the Sobel gradient along rows and columns, in gray a pixel, (b, h, w) each."""
    slope, smooth = picture.new_tensor([-0.5, 0, 0.5]), picture.new_tensor([0.25, 0.5, 0.25])
    kernels = torch.stack([torch.outer(slope, smooth), torch.outer(smooth, slope)])[:, None]
    gradient = functional.conv2d(functional.pad(picture[:, None], (1,) * 4, mode="replicate"), kernels)
    return gradient[:, 0], gradient[:, 1]


def _thin(strength: Tensor, angle: Tensor) -> Tensor:
    """Select the pixels with a greater gradient than their two neighbours in its direction. Of equals, one is kept."""
    sector = (angle / (math.pi / 4)).round().long() % 4
    ridge, (h, w), padded = (
        torch.zeros_like(sector, dtype=torch.bool),
        strength.shape[1:],
        functional.pad(strength, (1,) * 4),
    )
    for index, (row, column) in enumerate(AHEAD):
        ahead = padded[:, 1 + row : 1 + row + h, 1 + column : 1 + column + w]
        behind = padded[:, 1 - row : 1 - row + h, 1 - column : 1 - column + w]
        ridge |= (sector == index) & (strength > behind) & (strength >= ahead)
    return ridge


def _connect(strong: Tensor, weak: Tensor) -> Tensor:
    """Extend strong edges along weak ones, across the eight neighbours of a pixel."""
    places = functional.pad(weak, (1,) * 4).nonzero(as_tuple=True)
    number = torch.full((len(weak), weak.shape[1] + 2, weak.shape[2] + 2), len(places[0]), device=weak.device)
    number[places] = torch.arange(len(places[0]), device=weak.device)
    image, row, column = places
    around = [number[image, row + i, column + j] for i in (-1, 0, 1) for j in (-1, 0, 1)]
    neighbours = torch.stack(around, 1)  # numbers of weak pixels; the last number is for all others
    found = torch.cat([strong[weak], strong.new_zeros(1)])
    while True:
        grown = found[neighbours].any(1)
        if torch.equal(grown, found[:-1]):
            break
        found[:-1] = grown
    return weak.masked_scatter(weak, grown)
