"""Choose how the experts of a step run, by device and options."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch

from its.diffusion.graphs import CudaGraph, MultiStream
from its.diffusion.sampling import Runner, sequential
from its.errors import UserError
from its.interfaces import NoiseExpert

Auto = bool | Literal["auto"]

SIDE_BY_SIDE = 4
"""Largest batch whose experts run side by side by default. At batch 1 a step takes 19 % less on an H100, uncompiled;
larger batches were not measured."""


def choose_runner(
    experts: Iterable[NoiseExpert], *, device: torch.device, cuda_graph: Auto = "auto", streams: Auto = "auto"
) -> Runner:
    """The runner of a method's steps.

    Args:
        experts: that run.
        device: of the run.
        cuda_graph: `auto` captures on a CUDA device if all experts allow it.
        streams: run the experts side by side; `auto` does in CUDA graphs of small batches.

    Raises:
        UserError: an option is true, but the device is not a CUDA device.
    """
    on_cuda = device.type == "cuda"
    for name, value in (("cuda_graph", cuda_graph), ("streams", streams)):
        if value is True and not on_cuda:
            raise UserError(f"model.{name} is true, but the run is on {device.type}: it needs a CUDA GPU")
    if cuda_graph == "auto":
        cuda_graph = on_cuda and all(expert.capturable for expert in experts)
    if streams == "auto":
        run: Runner = MultiStream(largest=SIDE_BY_SIDE) if cuda_graph else sequential
    else:
        run = MultiStream() if streams else sequential
    return CudaGraph(run) if cuda_graph else run


def release(run: Runner) -> None:
    """Free the memory of captured graphs."""
    if isinstance(run, CudaGraph):
        run.clear()
