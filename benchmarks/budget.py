"""Decide which variants fit into the time that a run is given."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf

RESERVE = 5.0
"""Seconds kept for writing and for what the estimates miss."""

WARM = 0.35
"""Share of the time of preparing what compiles that is left with a filled cache."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A variant that has not been built.

    Attributes:
        name: in the results.
        program: `authors`, `informed user`, or a name of `Comparison.levers`.
        batch: samples made at once.
        fast: whether it takes the solver of fewer steps.
        compiles: whether preparing it compiles something.
        prepare: seconds from loading to ready, with an empty compile cache; measured on an H100 with real sizes.
        run: seconds of a whole batch, likewise.
        equals: name of the variant whose latents must be equal bit for bit.
        timed: whether it runs in the rounds; else only its latents are checked.
    """

    name: str
    program: str
    batch: int = 1
    fast: bool = False
    compiles: bool = False
    prepare: float
    run: float
    equals: str | None = None
    timed: bool = True


class TooLongError(BaseException):
    """Raised in the middle of a call that takes too long. No Exception: compilers fall back from those."""


class Budget:
    """Time left, and estimates of what a candidate takes, corrected by what was measured.

    Args:
        seconds: in all; None without a limit.
        clock: seconds that have passed.
        warm: whether the compile cache on disk is filled.
    """

    def __init__(
        self, seconds: float | None, clock: Callable[[], float] = time.perf_counter, *, warm: bool = False
    ) -> None:
        self._clock = clock
        self._end = inf if seconds is None else clock() + seconds
        self._prepared: dict[bool, tuple[float, float]] = {True: (WARM * 75, 75.0)} if warm else {}
        self._ran = (0.0, 0.0)
        self.runs: dict[str, float] = {}
        """Measured seconds of a run, by name."""

    def left(self) -> float:
        """Seconds left, less a reserve."""
        return self._end - self._clock() - RESERVE

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Interrupt what is done within it after so many seconds; infinity for never.

        Raises:
            TooLongError: the time is up.
        """
        if seconds == inf:
            yield
            return

        def stop(*_: object) -> None:
            raise TooLongError(f"stopped after {seconds:.0f} s: the rounds of the others need the time that is left")

        before = signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01), 5.0)  # again, if something swallows it
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def prepare(self, candidate: Candidate) -> float:
        """Expected seconds to prepare it; those that compile and those that don't are corrected apart."""
        measured, expected = self._prepared.get(candidate.compiles, (1.0, 1.0))
        return candidate.prepare * measured / expected

    def run(self, candidate: Candidate) -> float:
        """Expected seconds of a run."""
        measured, expected = self._ran if self._ran[1] else (1.0, 1.0)
        return self.runs.get(candidate.name, candidate.run * measured / expected)

    def needs(self, candidate: Candidate, ready: Iterable[Candidate], rounds: int) -> float:
        """Expected seconds to prepare a candidate and then run it and all that are ready so many times."""
        return self.prepare(candidate) + rounds * sum(self.run(each) for each in (*ready, candidate))

    def learn(self, candidate: Candidate, *, prepare: float, run: float) -> None:
        """Correct the estimates."""
        measured, expected = self._prepared.get(candidate.compiles, (0.0, 0.0))
        self._prepared[candidate.compiles] = measured + prepare, expected + candidate.prepare
        if candidate.name not in self.runs:
            self._ran = self._ran[0] + run, self._ran[1] + candidate.run
        self.runs[candidate.name] = run
