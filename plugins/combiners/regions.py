"""Each expert paints where its mask says: weights that differ over the canvas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional

from its.errors import nearest
from its.interfaces import Combiner
from its.registry import register
from its_plugins.combiners.masks import Box, Mask, Picture

FINE = 8
"""Points each way that a latent's share of a mask is the mean of."""


@register
class Regions(Combiner):
    """Weighted average of the experts by region: masks over the canvas, resized to the latents.

    lambda_m(x, t) = M_m(x) w_m(t) / sum_k M_k(x) w_k(t), with masks M_m in [0, 1] and weights w_m of another
    combiner. Where no mask of those who take part says anything, all of them do alike. This is the region control of
    MultiDiffusion (Bar-Tal et al., arXiv 2302.08113) without its crops.

    Args:
        masks: for each expert a number (1: everywhere), or a box with soft edges
            `{left: 0, right: 0.5, top: 0, bottom: 1, soft: 0.1}` in shares of the canvas, of which each may be left
            out; or a file, PNG (white: the expert's) or a 2-D .npy, of the canvas's proportions.
        combiner: gives the weights over time; by default all experts count the same all along.

    Raises:
        ValueError: a mask is not as it should be, or the combiner names other experts than `masks`.
    """

    def __init__(self, masks: dict[str, float | str | dict[str, float]], combiner: Combiner | None = None) -> None:
        if not masks:
            raise ValueError("masks is empty; name every expert")
        self.masks: dict[str, Mask] = {name: _mask(name, mask) for name, mask in masks.items()}
        self.combiner = combiner
        for name in [] if combiner is None else combiner.weights(0.0):
            if name not in masks:
                raise ValueError(
                    f"combiner names {name!r}, but masks only has {', '.join(masks)}.{nearest(name, masks)}"
                )
        self._resized: dict[tuple[Any, ...], dict[str, Tensor]] = {}

    def weights(self, progress: float) -> Mapping[str, float]:
        """w_m: those of the other combiner, or 1 for each."""
        return dict.fromkeys(self.masks, 1.0) if self.combiner is None else self.combiner.weights(progress)

    def combine(self, estimates: Mapping[str, Tensor], latents: Tensor, progress: float) -> Tensor:
        masks, weights = self._at(latents), self.weights(progress)
        shares = {name: weights[name] * masks[name] for name in estimates}
        total = sum(shares.values(), start=torch.zeros_like(latents[:1, :1]))
        painted = total.abs() > 1e-6
        alike = 1 / len(estimates)
        result = torch.zeros_like(latents)
        for name, estimate in estimates.items():
            result = result + torch.where(painted, shares[name] / total.where(painted, 1), alike) * estimate
        return result

    def check(self, *, canvas: tuple[int, int], steps: int) -> None:
        """The masks can be read and have the canvas's proportions.

        Raises:
            ValueError: one can't, or hasn't; the message names it.
        """
        for name, mask in self.masks.items():
            try:
                mask.check(canvas)
            except ValueError as error:
                raise ValueError(f"mask of {name}: {error}") from None
        if self.combiner is not None:
            self.combiner.check(canvas=canvas, steps=steps)

    def describe(self, *, defining: bool = False) -> dict[str, Any]:
        """As all plugins, but files by their content."""
        return super().describe(defining=defining) | {"masks": {n: mask.describe() for n, mask in self.masks.items()}}

    def _at(self, latents: Tensor) -> dict[str, Tensor]:
        """(h, w) masks of the latents' size, where and as they are."""
        rows, columns = latents.shape[2:]
        key = (rows, columns, latents.device, latents.dtype)
        if key not in self._resized:
            fine = {name: mask.draw((rows * FINE, columns * FINE)) for name, mask in self.masks.items()}
            self._resized[key] = {name: _resize(mask, rows, columns).to(latents) for name, mask in fine.items()}
        return self._resized[key]

    @classmethod
    def example(cls, experts: Sequence[str]) -> Self:
        """Side by side, with soft edges."""
        n = len(experts)
        return cls(masks={name: {"left": i / n, "right": (i + 1) / n, "soft": 0.1} for i, name in enumerate(experts)})


def _mask(name: str, given: float | str | dict[str, float]) -> Mask:
    try:
        if isinstance(given, str):
            return Picture(given)
        return Box(**given) if isinstance(given, dict) else Box(value=given)
    except (TypeError, ValueError) as error:
        raise ValueError(f"mask of {name}: {error}") from None


def _resize(mask: Tensor, rows: int, columns: int) -> Tensor:
    return functional.interpolate(mask[None, None], (rows, columns), mode="area")[0, 0]
