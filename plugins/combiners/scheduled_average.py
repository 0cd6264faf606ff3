"""Combiner whose weights change over time; a negative weight negates the expert's prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isfinite
from typing import Self

from its.interfaces import Combiner
from its.registry import register

Curve = list[tuple[float, float]]
"""(progress, weight) points, in order of progress."""


@register
class ScheduledAverage(Combiner):
    """Weighted average of all experts, with weights that are piecewise linear in progress.

    lambda_m(p) = w_m(p) / sum_k w_k(p), with progress p from 0 (pure noise) to 1. A negative weight subtracts the
    expert's estimate. This is the negation of compositional diffusion (Liu et al., arXiv 2206.01714), whose weights
    correspond to guidance scales here. An expert whose weight is always 0 is not loaded.

    Args:
        weights: for each expert a number, or points `[[progress, weight], ...]`. Weights are interpolated linearly
            between the points, and constant before the first and after the last.

    Raises:
        ValueError: a weight is not finite, points are out of range or order, or the weights at some progress do not
            add up to more than 0.
    """

    def __init__(self, weights: dict[str, float | list[tuple[float, float]]]) -> None:
        if not weights:
            raise ValueError("weights is empty; expected a weight for each expert")
        self.curves = {name: _parse_curve(name, weight) for name, weight in weights.items()}
        # A sum of piecewise linear curves has its minimum at one of their points.
        for progress in sorted({point for curve in self.curves.values() for point, _ in curve}):
            values = self._interpolate(progress)
            if not sum(values.values()) > 0:
                listed = ", ".join(f"{name} {value:g}" for name, value in values.items())
                raise ValueError(f"the weights at progress {progress:g} ({listed}) must add up to more than 0")

    def weights(self, progress: float) -> Mapping[str, float]:
        values = self._interpolate(progress)
        total = sum(values.values())
        return {name: value / total for name, value in values.items()}

    def _interpolate(self, progress: float) -> dict[str, float]:
        return {name: _interpolate(curve, progress) for name, curve in self.curves.items()}

    @classmethod
    def example(cls, experts: Sequence[str]) -> Self:
        """Create a combiner that fades in the first expert; the others have a constant weight."""
        return cls(weights={name: 1.0 if index else [(0.0, 0.0), (0.5, 1.0)] for index, name in enumerate(experts)})


def _parse_curve(name: str, weight: float | Sequence[tuple[float, float]]) -> Curve:
    points = [(0.0, float(weight))] if isinstance(weight, int | float) else [(float(p), float(w)) for p, w in weight]
    if not points:
        raise ValueError(f"weights of {name} has no points; expected a number or [[progress, weight], ...]")
    if not all(isfinite(w) for _, w in points):
        raise ValueError(f"weights of {name} (={weight}) must be finite numbers")
    if not all(0 <= p <= 1 for p, _ in points) or any(a >= b for (a, _), (b, _) in pairwise(points)):
        raise ValueError(f"weights of {name} (={weight}): progress must lie in [0, 1] and rise from point to point")
    return points


def _interpolate(curve: Curve, progress: float) -> float:
    if progress <= curve[0][0]:
        return curve[0][1]
    for (begin, low), (end, high) in pairwise(curve):
        if progress <= end:
            return low + (high - low) * (progress - begin) / (end - begin)
    return curve[-1][1]
