"""Time budget of a run: estimates of the variants' time, to select those that fit."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf

RESERVE = 5.0
"""Seconds reserved for writing and for errors of the estimates."""
WARM = 0.35
"""Time to prepare a compiled variant with a filled compile cache, relative to an empty one."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Description of a variant, before it is built. Estimates are for an H100 and real sizes."""

    name: str
    program: str  # "authors", "informed user", or a name of `Comparison.levers`
    batch: int = 1
    fast: bool = False  # use the solver with fewer steps
    compiles: bool = False
    prepare: float  # seconds to load and warm up, with an empty compile cache
    run: float  # seconds of a complete batch
    equals: str | None = None  # variant whose latents must be equal bit for bit
    timed: bool = True  # run in the rounds; otherwise only check the latents


class TooLongError(BaseException):
    """Raised if a call takes too long. Not an Exception, since compilers catch those and fall back."""


class Budget:
    """Remaining time, and estimates of the time of candidates, corrected by measurements.

    `warm` means that the compile cache on disk is filled.
    """

    def __init__(
        self, seconds: float | None, clock: Callable[[], float] = time.perf_counter, *, warm: bool = False
    ) -> None:
        self._clock = clock
        self._end = inf if seconds is None else clock() + seconds
        self._prepared: dict[bool, tuple[float, float]] = {True: (WARM * 75, 75.0)} if warm else {}
        self._ran = (0.0, 0.0)
        self.runs: dict[str, float] = {}  # measured seconds of a run, by name

    def left(self) -> float:
        """Return the seconds left, minus the reserve."""
        return self._end - self._clock() - RESERVE

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Raise TooLongError in the block after these seconds; infinity for no limit."""
        if seconds == inf:
            yield
            return

        def stop(*_: object) -> None:
            raise TooLongError(f"stopped after {seconds:.0f} s: other variants need the remaining time")

        before = signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01), 5.0)  # repeatedly, in case the error is caught
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def prepare(self, candidate: Candidate) -> float:
        """Estimate the seconds to prepare a candidate. Corrections for compiled and other variants are separate."""
        measured, expected = self._prepared.get(candidate.compiles, (1.0, 1.0))
        return candidate.prepare * measured / expected

    def run(self, candidate: Candidate) -> float:
        measured, expected = self._ran if self._ran[1] else (1.0, 1.0)
        return self.runs.get(candidate.name, candidate.run * measured / expected)

    def needs(self, candidate: Candidate, ready: Iterable[Candidate], rounds: int) -> float:
        """Estimate the seconds to prepare a candidate, and then to run it and all prepared ones in these rounds."""
        return self.prepare(candidate) + rounds * sum(self.run(each) for each in (*ready, candidate))

    def learn(self, candidate: Candidate, *, prepare: float, run: float) -> None:
        """Correct the estimates by measured seconds of a candidate."""
        measured, expected = self._prepared.get(candidate.compiles, (0.0, 0.0))
        self._prepared[candidate.compiles] = measured + prepare, expected + candidate.prepare
        if candidate.name not in self.runs:
            self._ran = self._ran[0] + run, self._ran[1] + candidate.run
        self.runs[candidate.name] = run
