"""Faster runners for `its.diffusion.sampling.denoise` on GPUs: CUDA streams and CUDA graphs.

A step of two UNets launches about 2,000 kernels. At small batch sizes the launches take longer than the kernels.
Combiner and scheduler are not captured: they launch few kernels, and sampling plans may keep state.
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
"""Runs before a capture, in which libraries select algorithms and networks are compiled."""

MAX_GRAPHS = 32
"""Maximum number of graphs. Each keeps its inputs and outputs; all share the memory of intermediate tensors."""


class MultiStream:
    """Runs each expert on its own CUDA stream. Results equal those of `sequential`.

    Args:
        max_batch: larger batches run sequentially, since one expert then occupies the device.
    """

    def __init__(self, *, max_batch: int = sys.maxsize) -> None:
        self.max_batch = max_batch
        self._streams: dict[str, torch.cuda.Stream] = {}

    def __call__(self, experts: Mapping[str, Any], latents: Tensor, timestep: Tensor) -> Mapping[str, Tensor]:
        """Run the experts like `sequential`. The current stream waits for all of them."""
        if len(experts) == 1 or len(latents) > self.max_batch:
            return sequential(experts, latents, timestep)
        current = torch.cuda.current_stream(latents.device)
        estimates = {}
        for name, expert in experts.items():
            stream = self._streams.setdefault(name, torch.cuda.Stream(latents.device))  # type: ignore[no-untyped-call]
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                estimates[name] = expert(latents, timestep)
            for tensor in (latents, timestep):
                tensor.record_stream(stream)
        for name, estimate in estimates.items():
            current.wait_stream(self._streams[name])
            estimate.record_stream(current)
        return estimates


class CudaGraph:
    """Captures a runner's step as a CUDA graph and replays it. Results equal those of the runner, bit for bit.

    Each combination of batch size and experts has its own graph: with a warm start, one for the first steps and one for
    the rest. Embeddings and scales of later batches are copied into the graph's memory. If a capture fails, all steps
    run without graphs from then on, after a warning.

    Args:
        run: runner to capture.
        capture: runs and captures a function, and returns its result and a function that recomputes the result in
            place; replaced in tests.
    """

    def __init__(self, run: Runner = sequential, *, capture: Capture | None = None) -> None:
        self._run = run
        self._capture = capture or _CudaCapture()
        self._graphs: dict[Any, _Graph] = {}
        self._supported = True

    def __call__(self, experts: Mapping[str, Any], latents: Tensor, timestep: Tensor) -> Mapping[str, Tensor]:
        """Run the experts, which must be `GuidedExpert`s, like `sequential`."""
        if not self._supported:
            return self._run(experts, latents, timestep)
        key = latents.shape, latents.dtype, *((name, expert.signature) for name, expert in experts.items())
        if key not in self._graphs:
            if len(self._graphs) >= MAX_GRAPHS:
                self.clear()
            try:
                self._graphs[key] = _Graph(self._run, self._capture, experts, latents, timestep)
            except CaptureError as error:
                warnings.warn(f"continuing without CUDA graphs, which is slower: {error}", stacklevel=1)
                self.clear()
                self._supported = False
                return self._run(experts, latents, timestep)
        return self._graphs[key](experts, latents, timestep)

    def clear(self) -> None:
        """Free the graphs and their memory."""
        self._graphs.clear()


class CaptureError(Exception):
    """A function ran, but could not be captured."""


Capture = Callable[[Callable[[], Mapping[str, Tensor]]], tuple[Mapping[str, Tensor], Callable[[], None]]]


class _Graph:
    """A captured graph with its inputs and outputs."""

    def __init__(
        self, run: Runner, capture: Capture, experts: Mapping[str, GuidedExpert], latents: Tensor, timestep: Tensor
    ) -> None:
        self.latents, self.timestep = latents.clone(), timestep.clone()
        self.experts = {name: expert.clone() for name, expert in experts.items()}
        self.copied = dict(experts)
        """Experts whose embeddings and scales are in the graph's memory."""
        self.estimates, self.replay = capture(lambda: run(self.experts, self.latents, self.timestep))

    def __call__(self, experts: Mapping[str, GuidedExpert], latents: Tensor, timestep: Tensor) -> Mapping[str, Tensor]:
        self.latents.copy_(latents)
        self.timestep.copy_(timestep)
        for name, expert in experts.items():
            if self.copied[name] is not expert:
                self.experts[name].copy_(expert)
                self.copied[name] = expert
        self.replay()
        # Clone: combiners and schedulers may keep estimates, and the next replay overwrites these.
        return {name: estimate.clone() for name, estimate in self.estimates.items()}


class _CudaCapture:
    """Captures CUDA graphs that share one memory pool, since they never run concurrently."""

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(self, function: Callable[[], Mapping[str, Tensor]]) -> tuple[Mapping[str, Tensor], Callable[[], None]]:
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        current, warm_up = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        warm_up.wait_stream(current)
        with torch.cuda.stream(warm_up):
            for _ in range(WARM_UP):
                function()
        current.wait_stream(warm_up)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool):
                estimates = function()
        except RuntimeError as error:
            if "out of memory" in str(error):  # not always an OutOfMemoryError
                raise torch.OutOfMemoryError(str(error)) from error
            raise CaptureError(" ".join(str(error).split())[:300]) from error
        return estimates, graph.replay
