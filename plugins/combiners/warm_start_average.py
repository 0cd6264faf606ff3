"""The paper's combiner: a weighted average with a warm start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Self

from its.errors import nearest
from its.interfaces import Combiner
from its.registry import register


@register
class WarmStartAverage(Combiner):
    """Weighted average in which each expert runs in the last part of the reverse process (warm start).

    Eq. 5 and 6 of the paper (arXiv 2405.12221), for any number of experts:
    lambda_m(t) = w_m(t) / sum_k w_k(t) with w_m(t) = weight_m * H(t_m T - t).

    Args:
        t: for each expert, the fraction of the reverse process in which it runs, counted from the end. At 1.0 it runs
            in all steps, at 0.9 in all but the first 10 %, at 0 in none.
        weights: relative weight of each expert; 1 by default.

    Raises:
        ValueError: a fraction or weight is out of range, `weights` has an expert that is not in `t`, or the first steps
            have no expert.
    """

    def __init__(self, t: dict[str, float], weights: dict[str, float] | None = None) -> None:
        weights = weights or {}
        for name in weights:
            if name not in t:
                raise ValueError(
                    f"weights has the expert {name!r}, but t only has {', '.join(t) or 'no expert'}.{nearest(name, t)}"
                )
        for name, fraction in t.items():
            if not 0 <= fraction <= 1:
                raise ValueError(f"t of {name} (={fraction}) must lie between 0 and 1: a fraction of the process")
        for name, weight in weights.items():
            if not (weight >= 0 and isfinite(weight)):
                raise ValueError(f"weight of {name} (={weight}) must be a finite number that is not negative")
        self.t = dict(t)
        self.w = {name: float(weights.get(name, 1.0)) for name in t}
        if not any(self._unnormalized(progress=0.0).values()):
            listed = ", ".join(f"{name}: t {t[name]:g} weight {self.w[name]:g}" for name in t) or "t is empty"
            raise ValueError(f"no expert runs in the first steps ({listed}); set t = 1.0 and a weight for one of them")

    def weights(self, progress: float) -> Mapping[str, float]:
        w = self._unnormalized(progress)
        total = sum(w.values())
        return {name: weight / total for name, weight in w.items()}

    def _unnormalized(self, progress: float) -> dict[str, float]:
        """Return w_m(t) of each expert."""
        # 1e-9: decimal fractions are not exact in binary.
        return {name: self.w[name] if 1 - fraction <= progress + 1e-9 else 0.0 for name, fraction in self.t.items()}

    @classmethod
    def example(cls, experts: Sequence[str]) -> Self:
        """Create a combiner whose first expert runs in all steps; the others start after a tenth of them."""
        return cls(t={name: 0.9 if index else 1.0 for index, name in enumerate(experts)})
