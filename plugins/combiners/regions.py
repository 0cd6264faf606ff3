"""Combiner with spatial masks: the weights of experts differ over the canvas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional

from its.errors import nearest
from its.interfaces import Combiner
from its.registry import register
from its_plugins.combiners.masks import Box, FileMask, Mask

SUPERSAMPLING = 8
"""Number of mask points in each direction that are averaged for one latent."""


@register
class Regions(Combiner):
    """Weighted average of experts by region: masks over the canvas, resized to the latents.

    lambda_m(x, t) = M_m(x) w_m(t) / sum_k M_k(x) w_k(t), with masks M_m in [0, 1] and the weights w_m of another
    combiner. Where the sum is 0, the active experts are averaged. This is the region control of MultiDiffusion
    (Bar-Tal et al., arXiv 2302.08113) without its crops.

    Args:
        masks: mask of each expert: a number (1 for the full canvas); a box with soft edges in fractions of the canvas,
            `{left: 0, right: 0.5, top: 0, bottom: 1, soft: 0.1}`, each key optional; or a file with the canvas's
            proportions, an image (white is full weight) or a 2-D .npy.
        combiner: combiner with the weights over time; null for constant equal weights.

    Raises:
        ValueError: a mask is invalid, or the combiner has an expert without a mask.
    """

    def __init__(self, masks: dict[str, float | str | dict[str, float]], combiner: Combiner | None = None) -> None:
        if not masks:
            raise ValueError("masks is empty; expected a mask for each expert")
        self.masks = {name: _parse_mask(name, value) for name, value in masks.items()}
        self.combiner = combiner
        for name in self.weights(0.0):
            if name not in masks:
                raise ValueError(
                    f"combiner has the expert {name!r}, but masks only has {', '.join(masks)}.{nearest(name, masks)}"
                )
        self._resized: dict[tuple[Any, ...], dict[str, Tensor]] = {}

    def weights(self, progress: float) -> Mapping[str, float]:
        return dict.fromkeys(self.masks, 1.0) if self.combiner is None else self.combiner.weights(progress)

    def combine(self, estimates: Mapping[str, Tensor], latents: Tensor, progress: float) -> Tensor:
        masks, weights = self._latent_masks(latents), self.weights(progress)
        shares = {name: weights[name] * masks[name] for name in estimates}
        total = sum(shares.values(), start=torch.zeros_like(latents[:1, :1]))
        covered = total.abs() > 1e-6
        result = torch.zeros_like(latents)
        for name, estimate in estimates.items():
            weight = torch.where(covered, shares[name] / total.where(covered, 1), 1 / len(estimates))
            result = result + weight * estimate
        return result

    def check(self, *, canvas: tuple[int, int], steps: int) -> None:
        for name, mask in self.masks.items():
            try:
                mask.check(canvas)
            except ValueError as error:
                raise ValueError(f"mask of {name}: {error}") from None
        if self.combiner is not None:
            self.combiner.check(canvas=canvas, steps=steps)

    def describe(self, *, identity_only: bool = False) -> dict[str, Any]:
        """Return class name and arguments; files are described by the digest of their content."""
        return super().describe(identity_only=identity_only) | {
            "masks": {n: mask.describe() for n, mask in self.masks.items()}
        }

    def _latent_masks(self, latents: Tensor) -> dict[str, Tensor]:
        """Return the masks (h, w) in the size, dtype and device of the latents."""
        rows, columns = latents.shape[2:]
        key = (rows, columns, latents.device, latents.dtype)
        if key not in self._resized:
            fine = {
                name: mask.render((rows * SUPERSAMPLING, columns * SUPERSAMPLING)) for name, mask in self.masks.items()
            }
            self._resized[key] = {
                name: functional.interpolate(mask[None, None], (rows, columns), mode="area")[0, 0].to(latents)
                for name, mask in fine.items()
            }
        return self._resized[key]

    @classmethod
    def example(cls, experts: Sequence[str]) -> Self:
        """Create regions side by side, with soft edges."""
        n = len(experts)
        return cls(masks={name: {"left": i / n, "right": (i + 1) / n, "soft": 0.1} for i, name in enumerate(experts)})


def _parse_mask(name: str, value: float | str | dict[str, float]) -> Mask:
    try:
        if isinstance(value, str):
            return FileMask(value)
        return Box(**value) if isinstance(value, dict) else Box(value=value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"mask of {name}: {error}") from None
