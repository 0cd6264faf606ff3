"""The paper's combination of noise estimates: a weighted average that experts may join late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Self

from its.errors import nearest
from its.interfaces import Combiner
from its.registry import register

ROUNDING = 1e-9
"""Allowance for decimal shares such as 0.7 in binary; far below the progress of one step."""


@register
class WarmStartAverage(Combiner):
    """Weighted average of the experts that take part, each in the last share of the reverse process.

    Eq. 5 and 6 of the paper (arXiv 2405.12221), for any number of experts:
    lambda_m(t) = w_m(t) / sum_k w_k(t) with w_m(t) = weight_m * H(t_m T - t).

    Args:
        t: for each expert, the share of the reverse process that it takes part in, always the last part:
            1.0 is all of it, with 0.9 it joins after the first 10 % of the steps, with 0 it never does.
        weights: weight of each expert against the others'; 1 for those that are not named.

    Raises:
        ValueError: a share or weight is out of range, `weights` names an expert that `t` does not, or there
            would be steps without any expert.
    """

    def __init__(self, t: dict[str, float], weights: dict[str, float] | None = None) -> None:
        weights = weights or {}
        for name in weights:
            if name not in t:
                raise ValueError(
                    f"weights names {name!r}, but t only has {', '.join(t) or 'nobody'}.{nearest(name, t)}"
                )
        for name, share in t.items():
            if not 0 <= share <= 1:
                raise ValueError(
                    f"t of {name} (={share}) must lie between 0 and 1: it is a share of the reverse process"
                )
        for name, weight in weights.items():
            if not (weight >= 0 and isfinite(weight)):
                raise ValueError(f"weight of {name} (={weight}) must be a finite number that is not negative")
        self.t = dict(t)
        self.w = {name: float(weights.get(name, 1.0)) for name in t}
        if not any(self._present(progress=0.0).values()):
            given = ", ".join(f"{name}: t {t[name]:g} weight {self.w[name]:g}" for name in t) or "no expert at all"
            raise ValueError(
                f"nobody takes part in the first steps ({given}): "
                "give at least one expert of positive weight t = 1.0, the whole process"
            )

    def weights(self, progress: float) -> Mapping[str, float]:
        """lambda_m of each expert at a share of the reverse process in [0, 1); they add up to 1."""
        w = self._present(progress)
        total = sum(w.values())
        return {name: weight / total for name, weight in w.items()}

    def _present(self, progress: float) -> dict[str, float]:
        """w_m(t) of each expert: 0 before it joins."""
        return {name: self.w[name] if 1 - share <= progress + ROUNDING else 0.0 for name, share in self.t.items()}

    @classmethod
    def example(cls, experts: Sequence[str]) -> Self:
        """The first expert for the whole process, the others join after a tenth of it."""
        return cls(t={name: 0.9 if index else 1.0 for index, name in enumerate(experts)})
