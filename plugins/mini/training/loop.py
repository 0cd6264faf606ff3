"""Training loop of all networks of the pack, with AdamW, a time limit and averaged weights."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

AVERAGE = 0.998
"""Decay per step of the exponential moving average (EMA) of the weights."""

CUDA_GRAPHS = True
"""Whether to run a step on CUDA as one graph; small networks are limited by kernel launches otherwise."""

Log = Callable[[dict], None]
M = TypeVar("M", bound=nn.Module)


def device(name: str) -> torch.device:
    """Return the device `name`; "auto" selects CUDA if available."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def logger(path: Path) -> Log:
    """Return a function that prints a record and appends it to `path` as a line of JSON."""

    def log(record: dict) -> None:
        line = json.dumps(record)
        print(line, flush=True)
        with path.open("a") as file:
            file.write(line + "\n")

    return log


def fit(
    model: M,
    objective: Callable[[M], Tensor],
    *,
    seconds: float,
    peak: float,
    name: str,
    log: Log,
    warm_up: int = 100,
    weight_decay: float = 1e-2,
    save: Callable[[M], None] | None = None,
) -> M:
    """Minimise `objective(model)` for `seconds` of wall time.

    Parameters that don't require a gradient stay unchanged. On CUDA, forward and backward pass are one CUDA graph, so
    `objective` must neither synchronise with the device nor depend on changing values of the host.

    Args:
        model: model, trained in place.
        objective: draws a batch and returns its loss.
        seconds: time limit.
        peak: learning rate after `warm_up` steps; it decreases by a cosine to a fiftieth at the end of the time.
        name: name of the stage in the log.
        log: log function.
        warm_up: steps of linear warm-up.
        weight_decay: weight decay of AdamW.
        save: called with the average of the weights so far at each record of the log.

    Returns:
        Model with the average of the weights (EMA), in evaluation mode; `model` itself has the last weights.

    Raises:
        RuntimeError: the loss is not finite.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    device = parameters[0].device
    optimizer = torch.optim.AdamW(parameters, lr=peak, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True)

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with bfloat16(device):
            loss = objective(model)
        loss.backward()
        return loss.detach()

    start = time.monotonic()
    model.train()
    average = copy.deepcopy(model).eval().requires_grad_(False)
    gradients = step
    if device.type == "cuda" and CUDA_GRAPHS:
        try:
            gradients = _capture(step)
        except RuntimeError as error:
            log({"stage": name, "without a CUDA graph": str(error)[:200]})
        log({"stage": name, "ready": True, "seconds": round(time.monotonic() - start, 1)})
    pairs = list(average.parameters()), list(model.parameters())
    count, smooth, logged = 0, 0.0, 0.0
    while (elapsed := time.monotonic() - start) < seconds:
        progress = elapsed / seconds
        for group in optimizer.param_groups:
            group["lr"] = peak * min(1, (count + 1) / warm_up) * (0.02 + 0.98 * math.cos(math.pi / 2 * progress) ** 2)
        loss = gradients()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        count += 1
        with torch.no_grad():
            torch._foreach_lerp_(*pairs, 1 - min(AVERAGE, (1 + count) / (20 + count)))
        if count % 10 == 0 or device.type == "cpu":  # reading the loss waits for the device
            smooth += max(0.05, 1 / (1 + count // 10)) * (loss.item() - smooth)
            if not math.isfinite(smooth):
                raise RuntimeError(f"the loss of stage {name!r} is not finite at step {count}: lower its learning rate")
        if elapsed > logged + max(1.0, seconds / 40):
            logged = elapsed
            log({"stage": name, "step": count, "loss": round(smooth, 5), "seconds": round(elapsed, 1)})
            if save is not None:
                save(average)
    for buffer, last in zip(average.buffers(), model.buffers(), strict=True):
        buffer.copy_(last)  # statistics of batch norms are already averages
    log({"stage": name, "step": count, "loss": round(smooth, 5), "seconds": round(time.monotonic() - start, 1)})
    return average


def bfloat16(device: torch.device) -> torch.autocast:
    """Autocast to bfloat16, except on processors that emulate it, which is many times slower.

    The cache of casts is disabled: it would outlive the capture of a CUDA graph, and no weight is used twice.
    """
    native = device.type != "cpu" or torch.cpu.get_capabilities().get("avx512_bf16", False)
    return torch.autocast(device.type, torch.bfloat16, enabled=native, cache_enabled=False)


def _capture(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Capture `step` as a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()

    def replay() -> Tensor:
        graph.replay()
        return loss

    return replay
