"""Part of `cpu.py`: speed of a UNet of Stable Diffusion's size relative to the processor's rate of matrix products."""

from __future__ import annotations

import time
from typing import Any

import models
import torch
from counting import gemm_rate
from devices import Device
from measuring import Figure, figure, interleave, ratios
from torch.utils.flop_counter import FlopCounterMode

CPU = torch.device("cpu")
GEMM_SIZE = 4096


def unet(rounds: int) -> dict[str, Figure]:
    """Stable Diffusion v1.5's UNet, latents 4 x 32 x 128, one row, all cores, against the GEMM rate of the same run."""
    figures = _measure(torch.bfloat16, "bf16", ("contiguous", "channels_last"), rounds)
    return figures | _measure(torch.float32, "float32", ("contiguous", "channels_last", "fused QKV"), rounds)


@torch.inference_mode()
def _measure(dtype: torch.dtype, name: str, ways: tuple[str, ...], rounds: int) -> dict[str, Figure]:
    print(f"  drawing the weights in {dtype}", flush=True)
    plain = models.unet(models.REAL, device=CPU, dtype=dtype)
    inputs = models.unet_inputs(models.REAL, device=CPU, dtype=dtype)
    with FlopCounterMode(display=False) as counter:
        plain(*inputs)
    flop = counter.get_total_flops()

    def rate(way: str) -> float:
        begin = time.perf_counter()
        networks[way](*inputs)
        return flop / (time.perf_counter() - begin)

    networks = {way: _variant(plain, dtype, way) for way in ways}
    turns = {"GEMM": lambda: gemm_rate(Device(), dtype, GEMM_SIZE, repeats=1)}
    turns |= {way: lambda way=way: rate(way) for way in ways}
    rates = interleave(turns, rounds=rounds)
    figures = {f"{name} | GEMM {GEMM_SIZE} x {GEMM_SIZE} x {GEMM_SIZE}": figure(rates["GEMM"], "GFLOP/s", scale=1e-9)}
    for way in ways:
        figures[f"{name}, {way} | s a forward"] = figure([flop / r for r in rates[way]], "")
        figures[f"{name}, {way} | share of the GEMM rate"] = figure(ratios(rates[way], rates["GEMM"]), "%", scale=100)
    return figures


def _variant(plain: Any, dtype: torch.dtype, way: str) -> Any:
    """Build the UNet with the same weights, in shared memory where the layout permits."""
    if way == "contiguous":
        return plain
    other = models.unet(models.REAL, device=torch.device("meta"), dtype=dtype)
    other.load_state_dict(plain.state_dict(), assign=True)
    if way == "channels_last":
        return other.to(memory_format=torch.channels_last)
    other.fuse_qkv_projections()
    return other
