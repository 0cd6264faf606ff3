"""Variants of `gpu.py` in order of importance, with estimates of their seconds on an H100."""

from __future__ import annotations

from budget import Candidate


def compared(*, tiny: bool) -> list[Candidate]:
    """List the authors' program, an informed user's, and `its` at several batch sizes and numbers of steps."""
    large, middle, few = (3, 2, 5) if tiny else (16, 8, 25)
    fast = f"ours, {few} steps, batch"
    return [
        Candidate(name="authors", program="authors", prepare=15, run=7.5),
        Candidate(name="ours, plain, batch 1", program="plain", prepare=15, run=2.4),
        Candidate(name="ours, batch 1", program="fast", compiles=True, prepare=75, run=1.3),
        Candidate(name=f"ours, batch {large}", program="fast", batch=large, compiles=True, prepare=60, run=14.5),
        Candidate(name=f"ours, batch {middle}", program="fast", batch=middle, compiles=True, prepare=60, run=7.2),
        Candidate(name=f"{fast} {large}", program="fast", batch=large, fast=True, prepare=6, run=4),
        Candidate(name=f"{fast} 1", program="fast", fast=True, prepare=2, run=0.4),
        Candidate(name="informed user", program="informed user", compiles=True, prepare=240, run=5),
        Candidate(name="ours, eager, batch 1", program="eager", prepare=12, run=8, equals="ours, plain, batch 1"),
        Candidate(name=f"ours, plain, batch {large}", program="plain", batch=large, prepare=12, run=20),
        Candidate(name="authors, float32", program="authors, float32", prepare=20, run=0, timed=False),
    ]


def ladder() -> list[Candidate]:
    """List the levers, added one by one, at batch 1."""
    return [
        Candidate(name="eager", program="eager", prepare=12, run=8),
        Candidate(name="+ CUDA graph", program="+ CUDA graph", prepare=10, run=2.4, equals="eager"),
        Candidate(name="+ two streams", program="+ two streams", prepare=10, run=2, equals="eager"),
        Candidate(name="+ channels_last", program="+ channels_last", prepare=12, run=2),
        Candidate(name="+ compile", program="+ compile", compiles=True, prepare=60, run=1.3),
        Candidate(name="+ attention by timing", program="+ attention by timing", compiles=True, prepare=60, run=1.3),
        Candidate(name="+ cuDNN benchmark", program="+ cuDNN benchmark", compiles=True, prepare=60, run=1.3),
    ]
