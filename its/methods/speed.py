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


def choose_runner(
    experts: Iterable[NoiseExpert], *, device: torch.device, cuda_graph: Auto = "auto", streams: bool = False
) -> Runner:
    """The runner of a method's steps.

    Args:
        experts: that run.
        device: of the run.
        cuda_graph: `auto` captures on a CUDA device if all experts allow it.
        streams: run the experts side by side.

    Raises:
        UserError: an option is true, but the device is not a CUDA device.
    """
    on_cuda = device.type == "cuda"
    for name, value in (("cuda_graph", cuda_graph), ("streams", streams)):
        if value is True and not on_cuda:
            raise UserError(f"model.{name} is true, but the run is on {device.type}: it needs a CUDA GPU")
    run: Runner = MultiStream() if streams else sequential
    if cuda_graph == "auto":
        cuda_graph = on_cuda and all(expert.capturable for expert in experts)
    return CudaGraph(run) if cuda_graph else run


def release(run: Runner) -> None:
    """Free the memory of captured graphs."""
    if isinstance(run, CudaGraph):
        run.clear()
