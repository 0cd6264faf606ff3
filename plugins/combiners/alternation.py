"""Combiner that runs one expert at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

from its.interfaces import Combiner
from its.registry import register


@register
class Alternation(Combiner):
    """Runs one expert at a time, in turns, which is half the work of averaging two experts.

    Alternating reduction of visual anagrams (Geng et al., arXiv 2311.17919): at progress p, the weight of expert
    order[floor(p * turns) mod len(order)] is 1, and all other weights are 0.

    Args:
        order: expert names in the order of their turns. A name may occur more than once.
        turns: number of turns in the reverse process. If equal to the number of steps, the expert changes each step.

    Raises:
        ValueError: `order` is empty, or `turns` is smaller than the length of `order`.
    """

    def __init__(self, order: list[str], turns: int) -> None:
        if not order:
            raise ValueError("order is empty; expected the names of all experts")
        if turns < len(order):
            raise ValueError(f"turns (={turns}) must be at least {len(order)}, one for each expert in order")
        self.order = list(order)
        self.turns = turns

    def weights(self, progress: float) -> Mapping[str, float]:
        turn = int(progress * self.turns + 1e-9)  # 1e-9: decimal fractions are not exact in binary
        return dict.fromkeys(self.order, 0.0) | {self.order[turn % len(self.order)]: 1.0}

    def check(self, *, canvas: tuple[int, int], steps: int) -> None:
        if self.turns > steps:
            raise ValueError(f"turns (={self.turns}) must be at most {steps}, the number of steps")

    @classmethod
    def example(cls, experts: Sequence[str]) -> Self:
        return cls(order=list(experts), turns=max(10, len(experts)))
