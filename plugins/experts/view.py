"""Experts that look at the canvas in another way: mirrored, turned round, or with its blocks rearranged."""

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
    """Another expert that sees the canvas through a view: v^-1(eps(v(z); y, t)), as in visual anagrams.

    Geng et al., arXiv 2311.17919. A sound expert that sees time mirrored wants a picture that sounds as its prompt
    says when it is played backwards. Views act on latents, where they are what they are to pixels as far as the
    autoencoder treats both ways alike; theirs worked on pixels. Flips come first, then blocks.

    Args:
        expert: who looks.
        flips: `time` mirrors the columns, `frequency` the rows; both are a rotation by 180 degrees.
        blocks: rows and columns of blocks that the canvas is cut into.
        order: which block is seen at each place, row by row from 0; or a seed that draws an order.

    Raises:
        ValueError: an order that is none, or blocks without order.
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
        self.capturable = expert.capturable and blocks == (1, 1)  # an order is copied to the device at each call
        self.axes = [AXES[flip] for flip in flips or []]
        self.blocks = blocks
        count = blocks[0] * blocks[1]
        if min(blocks) < 1 or (count > 1) != (order is not None):
            raise ValueError(
                f"blocks (={list(blocks)}) and order (={order}) go together: rows and columns of blocks, at least 1 "
                "each, and which block is seen at each place"
            )
        if isinstance(order, int):
            order = torch.randperm(count, generator=torch.Generator("cpu").manual_seed(order), device="cpu").tolist()
        self.order = list(range(count)) if order is None else list(order)
        if sorted(self.order) != list(range(count)):
            raise ValueError(f"order (={self.order}) must have each of 0 to {count - 1} once")

    def check(self, *, canvas: tuple[int, int], steps: int) -> None:
        """The latents can be cut into these blocks.

        Raises:
            ValueError: they can't.
        """
        super().check(canvas=canvas, steps=steps)
        codec = self.codec()
        codec.find()
        self._check_size(*codec.latent_shape(canvas)[1:])

    def predict_noise(self, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        return self.back(super().predict_noise(self.through(latents), timestep, text))

    def through(self, canvas: Tensor) -> Tensor:
        """v: the canvas (b, c, h, w) as the expert sees it.

        Raises:
            ValueError: it can't be cut into these blocks.
        """
        return self._rearranged(canvas.flip(self.axes), self.order)

    def back(self, seen: Tensor) -> Tensor:
        """v^-1: what the expert sees -> as it is on the canvas."""
        inverse = sorted(range(len(self.order)), key=self.order.__getitem__)
        return self._rearranged(seen, inverse).flip(self.axes)

    def _rearranged(self, canvas: Tensor, order: list[int]) -> Tensor:
        rows, columns = self.blocks
        if rows == columns == 1:
            return canvas
        self._check_size(*canvas.shape[2:])
        cut = rearrange(canvas, "b c (r h) (k w) -> (r k) b c h w", r=rows, k=columns)
        return rearrange(cut[order], "(r k) b c h w -> b c (r h) (k w)", r=rows, k=columns)

    def _check_size(self, rows: int, columns: int) -> None:
        if rows % self.blocks[0] or columns % self.blocks[1]:
            raise ValueError(
                f"blocks (={list(self.blocks)}) must divide the latents, which have {rows} rows and {columns} columns"
            )

    @classmethod
    def example(cls, folder: Path) -> Self:
        """Of tiny random weights made in `folder`, mirrored in time and with its blocks rearranged."""
        return cls(expert=StableDiffusion.example(folder), flips=["time"], blocks=(2, 2), order=[1, 0, 3, 2])
