"""Faster ways to run the experts of a step on a GPU, for `its.diffusion.sampling.denoise`.

A step of two UNets launches some thousand kernels, and at small batches the launches take longer than the kernels.
Combiner and scheduler are not captured: they are a dozen launches, and sampling plans may keep state.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from its.diffusion.guidance import GuidedExpert
from its.diffusion.sampling import Runner, sequential

WARM_UP = 2
"""Runs before a capture, in which libraries choose their algorithms and compilers compile."""

MOST = 32
"""Graphs that are kept; each holds its inputs and outputs, and all share the memory of what is between."""


class MultiStream:
    """Runs each expert on its own CUDA stream. The results are those of `sequential`.

    Args:
        largest: batch; larger ones run one expert after the other, since one alone fills the device.
    """

    def __init__(self, *, largest: int = sys.maxsize) -> None:
        self.largest = largest
        self._streams: dict[str, torch.cuda.Stream] = {}

    def __call__(self, experts: Mapping[str, Any], latents: Tensor, timestep: Tensor) -> Mapping[str, Tensor]:
        """As `sequential`; later work on the current stream waits for all experts."""
        if len(experts) == 1 or len(latents) > self.largest:
            return sequential(experts, latents, timestep)
        here = torch.cuda.current_stream(latents.device)
        estimates = {}
        for name, expert in experts.items():
            stream = self._streams.setdefault(name, torch.cuda.Stream(latents.device))  # type: ignore[no-untyped-call]
            stream.wait_stream(here)
            with torch.cuda.stream(stream):
                estimates[name] = expert(latents, timestep)
            for tensor in (latents, timestep):
                tensor.record_stream(stream)
        for name, estimate in estimates.items():
            here.wait_stream(self._streams[name])
            estimate.record_stream(here)
        return estimates


class CudaGraph:
    """Captures the experts of a step as one CUDA graph, and replays it.

    There is a graph for each batch size and each set of experts: with a warm start one for the first steps and one for
    the rest. Results equal those of `run` bit for bit. Texts and scales of later batches are copied into the graph's
    memory.

    Where a step can't be captured, it runs without a graph from then on, with a warning; so does every later one.

    Args:
        run: the captured runner.
        capture: function -> (its result, a function that computes it again in the same memory); for tests.
    """

    def __init__(self, run: Runner = sequential, *, capture: Capture | None = None) -> None:
        self._run = run
        self._capture = capture or _CudaCapture()
        self._graphs: dict[Any, _Graph] = {}
        self._works = True

    def __call__(self, experts: Mapping[str, Any], latents: Tensor, timestep: Tensor) -> Mapping[str, Tensor]:
        """As `sequential`, for `GuidedExpert`s."""
        if not self._works:
            return self._run(experts, latents, timestep)
        key = latents.shape, latents.dtype, *((name, expert.signature) for name, expert in experts.items())
        if key not in self._graphs:
            if len(self._graphs) >= MOST:
                self.clear()
            try:
                self._graphs[key] = _Graph(self._run, self._capture, experts, latents, timestep)
            except NotCaptured as error:
                warnings.warn(f"going on without CUDA graphs, which is slower: {error}", stacklevel=1)
                self.clear()
                self._works = False
                return self._run(experts, latents, timestep)
        return self._graphs[key](experts, latents, timestep)

    def clear(self) -> None:
        """Free the graphs and their memory."""
        self._graphs.clear()


class NotCaptured(Exception):
    """A function ran, but could not be captured."""


Capture = Callable[[Callable[[], Mapping[str, Tensor]]], tuple[Mapping[str, Tensor], Callable[[], None]]]


class _Graph:
    """One captured graph, with the memory that it reads and writes."""

    def __init__(
        self,
        run: Runner,
        capture: Capture,
        experts: Mapping[str, GuidedExpert],
        latents: Tensor,
        timestep: Tensor,
    ) -> None:
        self.latents, self.timestep = latents.clone(), timestep.clone()
        self.experts = {name: expert.clone() for name, expert in experts.items()}
        self.current = dict(experts)
        """Experts whose texts and scales are in the graph's memory."""
        self.estimates, self.replay = capture(lambda: run(self.experts, self.latents, self.timestep))

    def __call__(self, experts: Mapping[str, GuidedExpert], latents: Tensor, timestep: Tensor) -> Mapping[str, Tensor]:
        self.latents.copy_(latents)
        self.timestep.copy_(timestep)
        for name, expert in experts.items():
            if self.current[name] is not expert:
                self.experts[name].copy_(expert)
                self.current[name] = expert
        self.replay()
        # Copies: combiners and schedulers may keep estimates beyond the step, and the next replay overwrites these.
        return {name: estimate.clone() for name, estimate in self.estimates.items()}


class _CudaCapture:
    """CUDA graphs that share one pool of memory, since no two of them run at once."""

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(self, function: Callable[[], Mapping[str, Tensor]]) -> tuple[Mapping[str, Tensor], Callable[[], None]]:
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        here, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                function()
        here.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool):
                estimates = function()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if "out of memory" in str(error):
                raise torch.OutOfMemoryError(str(error)) from error
            raise NotCaptured(" ".join(str(error).split())[:300]) from error
        return estimates, graph.replay
