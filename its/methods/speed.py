"""Select the runner of a step's experts from device and options."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch

from its.diffusion.graphs import CudaGraph, MultiStream
from its.diffusion.sampling import Runner, sequential
from its.errors import UserError
from its.interfaces import NoiseExpert

Auto = bool | Literal["auto"]

MAX_STREAM_BATCH = 4
"""Largest batch for which `auto` uses streams. At batch size 1 they shorten a step by 19 % on an H100, uncompiled;
larger batches were not measured."""


def choose_runner(
    experts: Iterable[NoiseExpert], *, device: torch.device, cuda_graph: Auto = "auto", streams: Auto = "auto"
) -> Runner:
    """Select the runner of a method's steps.

    Args:
        experts: experts to run.
        device: device of the run.
        cuda_graph: capture CUDA graphs; `auto` captures on CUDA devices if all experts are `capturable`.
        streams: run experts on parallel CUDA streams; `auto` enables it in CUDA graphs of small batches.

    Raises:
        UserError: an option is true, but the device is not a CUDA device.
    """
    on_cuda = device.type == "cuda"
    for name, value in (("cuda_graph", cuda_graph), ("streams", streams)):
        if value is True and not on_cuda:
            raise UserError(f"model.{name} is true, but the run is on {device.type}: set it to auto, or use a CUDA GPU")
    if cuda_graph == "auto":
        cuda_graph = on_cuda and all(expert.capturable for expert in experts)
    run: Runner = sequential
    if streams == "auto" and cuda_graph:
        run = MultiStream(max_batch=MAX_STREAM_BATCH)
    elif streams is True:
        run = MultiStream()
    return CudaGraph(run) if cuda_graph else run


def release(run: Runner) -> None:
    """Free the memory of captured graphs."""
    if isinstance(run, CudaGraph):
        run.clear()
