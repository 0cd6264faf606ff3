"""Overlapping windows of a wide canvas, for experts and codecs of a limited width (MultiDiffusion, arXiv 2302.08113).

Shapes used here: b batch, n windows, c channels, h rows, w columns of a window, k windows over one column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import pi

import torch
from einops import rearrange
from torch import Tensor

from its.interfaces import ExpertWrapper, LatentCodec, NoiseExpert

MAX_ROWS = 32
"""Maximum number of windows in one call of an expert, which bounds memory for long canvases."""


@dataclass(frozen=True)
class Layout:
    """Positions of equally wide windows that cover a canvas.

    Attributes:
        columns: columns of the canvas.
        width: columns of a window.
        starts: first column of each window.
        circular: whether windows continue at the first column after the last one.
    """

    columns: int
    width: int
    starts: tuple[int, ...]
    circular: bool = False

    @classmethod
    def of(cls, columns: int, *, width: int, stride: int, circular: bool = False) -> Layout:
        """Place windows at every `stride` columns. The last one ends with the canvas, unless the canvas is circular.

        If the window is at least as wide as the canvas, the canvas is one window. A circular canvas has at least two,
        so that its ends are inside of one of them.
        """
        width = min(width, columns)
        if circular:
            starts = tuple(range(0, columns, min(stride, max(1, columns // 2))))
        else:
            starts = (*range(0, columns - width, stride), columns - width)
        return cls(columns, width, starts, circular)

    def scaled(self, factor: int) -> Layout:
        """Return the layout of a canvas with `factor` times as many columns."""
        return Layout(
            self.columns * factor, self.width * factor, tuple(start * factor for start in self.starts), self.circular
        )

    @property
    def fractions(self) -> list[float]:
        """Position of each window in a transition along the canvas, from 0 (first) to 1 (last).

        On a circular canvas the transition goes to 1 in the middle and back, and a window's position is its middle.
        """
        if self.circular:
            middles = [(start + self.width / 2) % self.columns for start in self.starts]
            return [1 - abs(1 - 2 * middle / self.columns) for middle in middles]
        return [start / max(1, self.columns - self.width) for start in self.starts]

    def split(self, canvas: Tensor) -> Tensor:
        """Cut a canvas (b, c, h, columns) into windows (b, n, c, h, w)."""
        if len(self.starts) == 1:
            return canvas[:, None]
        index, _, _ = _tables(self, canvas.device)
        return rearrange(canvas[..., index], "b c h n w -> b n c h w")

    def merge(self, windows: Tensor) -> Tensor:
        """Average windows (b, n, c, h, w) to a canvas (b, c, h, columns).

        The weights fall to zero towards the ends of a window, where it lacks context, and sum to 1 in each column.
        """
        if len(self.starts) == 1:
            return windows[:, 0]
        _, positions, weights = _tables(self, windows.device)
        flat = rearrange(windows, "b n c h w -> b c h (n w)")
        return (flat[..., positions] * weights.to(windows.dtype)).sum(-2)  # gathered, since scatter has no fixed order


@cache
def _tables(layout: Layout, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Compute index tables of a layout.

    Returns:
        Columns of each window (n, w); positions in the concatenated windows and their weights, (k, columns) each.
    """
    with torch.inference_mode(False):  # they are also used with gradients
        return _compute_tables(layout, device)


def _compute_tables(layout: Layout, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    offsets = torch.arange(layout.width, device="cpu")
    index = (torch.tensor(layout.starts, device="cpu")[:, None] + offsets) % layout.columns
    window = torch.sin((offsets + 0.5) * pi / layout.width) ** 2
    flat = index.flatten()
    order = torch.argsort(flat, stable=True)
    counts = torch.bincount(flat, minlength=layout.columns)
    first = counts.cumsum(0) - counts
    rank = torch.arange(len(flat), device="cpu") - first[flat[order]]  # of each position among those of its column
    positions = torch.zeros(int(counts.max()), layout.columns, dtype=torch.int64, device="cpu")
    weights = torch.zeros(positions.shape, dtype=torch.float32, device="cpu")
    positions[rank, flat[order]] = order
    weights[rank, flat[order]] = window[order % layout.width]
    return index.to(device), positions.to(device), (weights / weights.sum(0)).to(device)


def downsampling(codec: LatentCodec) -> int:
    """Return the pixels in a column of a codec's latents. Valid after `find`."""
    side = 2048  # a multiple of any factor
    return side // codec.latent_shape((side, side))[2]


class Windows(ExpertWrapper):
    """Expert applied to overlapping windows of the canvas, whose estimates are averaged.

    With one window it equals the wrapped expert.

    Args:
        expert: the wrapped expert.
        width: columns of a window, in pixels.
        stride: columns from one window to the next, in pixels.
        circular: whether the end of the canvas continues at its beginning.
    """

    def __init__(self, *, expert: NoiseExpert, width: int, stride: int, circular: bool = False) -> None:
        super().__init__(expert)
        self.width, self.stride, self.circular = width, stride, circular
        self._scale: int | None = None

    def check(self, *, canvas: tuple[int, int], steps: int) -> None:
        """Check that the expert supports windows instead of the canvas."""
        super().check(canvas=(canvas[0], min(self.width, canvas[1])), steps=steps)

    @property
    def scale(self) -> int:
        """Pixels of a column of latents. Valid after `find`."""
        if self._scale is None:
            codec = self.codec()
            codec.find()
            self._scale = downsampling(codec)
        return self._scale

    def layout(self, columns: int) -> Layout:
        """Return the layout for latents of this number of columns."""
        width, stride = self.width // self.scale, self.stride // self.scale
        return Layout.of(columns, width=width, stride=stride, circular=self.circular)

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Return embeddings (b, 1, ...), equal for all windows. Those of (b, n, ...) are one for each window."""
        return super().encode_text(prompts)[:, None]

    def add_control(self, text: Tensor, pictures: Tensor, scales: Tensor) -> Tensor:
        """Add to each window its part of the control pictures (b, k, 3, H, W). Returns embeddings (b, n, ...)."""
        layout = self.layout(pictures.shape[-1] // self.scale).scaled(self.scale)
        number, size = len(layout.starts), len(text)
        parts = rearrange(layout.split(pictures.flatten(1, 2)), "b n (k c) h w -> (b n) k c h w", c=3)
        text = text.expand(size, number, *text.shape[2:]).flatten(0, 1)
        text = super().add_control(text, parts, scales.repeat_interleave(number, 0))
        return torch.unflatten(text, 0, (size, number))

    def predict_noise(self, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        """Average the estimates of all windows, from embeddings for all (b, 1, ...) or for each (b, n, ...)."""
        layout = self.layout(latents.shape[-1])
        number, size = len(layout.starts), len(latents)
        windows, estimates = layout.split(latents).flatten(0, 1), []
        text = text.expand(size, number, *text.shape[2:])  # a view: embeddings are copied for MAX_ROWS windows at most
        for rows in torch.split(torch.arange(size * number, device=latents.device), MAX_ROWS):
            sample, window = rows // number, rows % number
            estimates.append(super().predict_noise(windows[rows], timestep[sample], text[sample, window]))
        noise = torch.cat(estimates)
        return layout.merge(torch.unflatten(noise, 0, (size, number)))
