"""Wrapper that applies an expert to a view of the canvas: mirrored, rotated, or with its blocks rearranged."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import torch
from einops import rearrange
from torch import Tensor

from its.interfaces import ExpertWrapper, NoiseExpert
from its.registry import register
from its_plugins.experts.stable_diffusion import StableDiffusion

AXES = {"frequency": 2, "time": 3}


@register
class View(ExpertWrapper):
    """Expert applied to a view of the canvas, v^-1(eps(v(z); y, t)), as in visual anagrams.

    Geng et al., arXiv 2311.17919. With time mirrored, the prompt of an audio expert describes the sound played
    backwards. Views transform latents here, and pixels in the paper; results agree as far as the autoencoder is
    equivariant. Flips are applied before blocks.

    Args:
        expert: the wrapped expert.
        flips: `time` mirrors the columns, `frequency` the rows; both together rotate by 180 degrees.
        blocks: rows and columns of blocks into which the canvas is divided.
        order: number of the canvas's block at each position of the expert's view, row by row from 0; or a seed for a
            random order.

    Raises:
        ValueError: `blocks` and `order` are inconsistent.
    """

    def __init__(
        self,
        *,
        expert: NoiseExpert,
        flips: list[Literal["time", "frequency"]] | None = None,
        blocks: tuple[int, int] = (1, 1),
        order: list[int] | int | None = None,
    ) -> None:
        super().__init__(expert)
        self.capturable = expert.capturable and blocks == (1, 1)  # indexing by the order copies it to the device
        self.axes = [AXES[flip] for flip in flips or []]
        self.blocks = blocks
        count = blocks[0] * blocks[1]
        if min(blocks) < 1 or (count > 1) != (order is not None):
            raise ValueError(
                f"blocks (={list(blocks)}) and order (={order}) are inconsistent: expected at least 1 row and column "
                "of blocks, and an order only for more than one block"
            )
        if isinstance(order, int):
            order = torch.randperm(count, generator=torch.Generator("cpu").manual_seed(order), device="cpu").tolist()
        self.order = list(range(count)) if order is None else list(order)
        if sorted(self.order) != list(range(count)):
            raise ValueError(f"order (={self.order}) must contain each number from 0 to {count - 1} once")

    def check(self, *, canvas: tuple[int, int], steps: int) -> None:
        super().check(canvas=canvas, steps=steps)
        codec = self.codec()
        codec.find()
        self._check_size(*codec.latent_shape(canvas)[1:])

    def add_control(self, text: Tensor, pictures: Tensor, scales: Tensor) -> Tensor:
        """Add control pictures, which are those of the canvas, in the expert's view."""
        views = torch.unflatten(self.apply_view(pictures.flatten(0, 1)), 0, pictures.shape[:2])
        return super().add_control(text, views, scales)

    def predict_noise(self, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        return self.invert_view(super().predict_noise(self.apply_view(latents), timestep, text))

    def apply_view(self, canvas: Tensor) -> Tensor:
        """Map the canvas (b, c, h, w) to the expert's view: v.

        Raises:
            ValueError: the canvas can't be divided into these blocks.
        """
        return self._rearrange(canvas.flip(self.axes), self.order)

    def invert_view(self, view: Tensor) -> Tensor:
        """Map the expert's view (b, c, h, w) to the canvas: v^-1."""
        inverse = sorted(range(len(self.order)), key=self.order.__getitem__)
        return self._rearrange(view, inverse).flip(self.axes)

    def _rearrange(self, canvas: Tensor, order: list[int]) -> Tensor:
        rows, columns = self.blocks
        if rows == columns == 1:
            return canvas
        self._check_size(*canvas.shape[2:])
        blocks = rearrange(canvas, "b c (r h) (k w) -> (r k) b c h w", r=rows, k=columns)
        return rearrange(blocks[order], "(r k) b c h w -> b c (r h) (k w)", r=rows, k=columns)

    def _check_size(self, rows: int, columns: int) -> None:
        if rows % self.blocks[0] or columns % self.blocks[1]:
            raise ValueError(
                f"blocks (={list(self.blocks)}) must divide the latents, which have {rows} rows and {columns} columns"
            )

    @classmethod
    def example(cls, folder: Path) -> Self:
        return cls(expert=StableDiffusion.example(folder), flips=["time"], blocks=(2, 2), order=[1, 0, 3, 2])
