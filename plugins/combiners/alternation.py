"""Experts that take turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

from its.interfaces import Combiner
from its.registry import register

ROUNDING = 1e-9
"""Allowance for shares such as 0.7 in binary; far below the progress of one step."""


@register
class Alternation(Combiner):
    """One expert at a time, in turns: half the work of an average of two.

    The alternating reduction of visual anagrams (Geng et al., arXiv 2311.17919), which also had several steps go by
    before the next one's turn: lambda_m(p) = 1 for m = order[floor(p * turns) mod len(order)], else 0.

    Args:
        order: the experts, as they follow each other; one may come more than once.
        turns: how many there are in all. As many as steps: another expert at every step.

    Raises:
        ValueError: nobody is named, or somebody would have no turn at all.
    """

    def __init__(self, order: list[str], turns: int) -> None:
        if not order:
            raise ValueError("order is empty; name every expert")
        if turns < len(order):
            raise ValueError(f"turns (={turns}) must be at least {len(order)}, one for each in order")
        self.order = list(order)
        self.turns = turns

    def weights(self, progress: float) -> Mapping[str, float]:
        """1 for the one whose turn it is, 0 for the others."""
        turn = int(progress * self.turns + ROUNDING)
        return dict.fromkeys(self.order, 0.0) | {self.order[turn % len(self.order)]: 1.0}

    def check(self, *, canvas: tuple[int, int], steps: int) -> None:
        """A turn takes a step at least.

        Raises:
            ValueError: there are more turns than steps.
        """
        if self.turns > steps:
            raise ValueError(f"turns (={self.turns}) must be at most {steps}, the number of steps")

    @classmethod
    def example(cls, experts: Sequence[str]) -> Self:
        """Ten turns."""
        return cls(order=list(experts), turns=max(10, len(experts)))
