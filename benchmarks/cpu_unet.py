"""A part of `cpu.py`: a UNet of Stable Diffusion's size against what the processor multiplies at best."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import models
import torch
from counting import gemm_rate
from devices import Device
from measuring import Figure, figure, interleaved, ratios
from torch.utils.flop_counter import FlopCounterMode

CPU = torch.device("cpu")
GEMM_SIZE = 4096


def unet(rounds: int) -> dict[str, Figure]:
    """Stable Diffusion v1.5's UNet, latents 4 x 32 x 128, one row, all cores, against the GEMM rate of the same run."""
    found = _measure(torch.bfloat16, "bf16", ("contiguous", "channels_last"), rounds)
    return found | _measure(torch.float32, "float32", ("contiguous", "channels_last", "fused QKV"), rounds)


@torch.inference_mode()
def _measure(dtype: torch.dtype, name: str, ways: tuple[str, ...], rounds: int) -> dict[str, Figure]:
    forwards, flop = _ready(dtype, ways)

    def rate(way: str) -> float:
        begin = time.perf_counter()
        forwards[way]()
        return flop / (time.perf_counter() - begin)

    turns = {"GEMM": lambda: gemm_rate(Device(), dtype, GEMM_SIZE, repeats=1)}
    turns |= {way: lambda way=way: rate(way) for way in ways}
    rates = interleaved(turns, rounds=rounds)
    found = {f"{name} | GEMM {GEMM_SIZE} x {GEMM_SIZE} x {GEMM_SIZE}": figure(rates["GEMM"], "GFLOP/s", scale=1e-9)}
    for way in ways:
        found[f"{name}, {way} | s a forward"] = figure([flop / r for r in rates[way]], "")
        found[f"{name}, {way} | share of the GEMM rate"] = figure(ratios(rates[way], rates["GEMM"]), "%", scale=100)
    return found


def _ready(dtype: torch.dtype, ways: tuple[str, ...]) -> tuple[dict[str, Callable[[], Any]], int]:
    """One forward each way, and its FLOP."""
    shape = models.REAL
    print(f"  drawing the weights in {dtype}", flush=True)
    plain = models.plain_unet(shape, device=CPU, dtype=dtype)
    z = torch.randn(1, 4, *models.latent_size(shape), dtype=dtype)
    text = torch.randn(1, 77, shape.unet["cross_attention_dim"], dtype=dtype)
    t = torch.tensor([500])
    with FlopCounterMode(display=False) as counter:
        plain(z, t, text)
    networks = {"contiguous": plain}
    for way in ways:
        if way != "contiguous":
            networks[way] = _variant(plain, shape, dtype, way)
    forwards = {way: (lambda network=network: network(z, t, text)) for way, network in networks.items()}
    return forwards, counter.get_total_flops()


def _variant(plain: Any, shape: models.Shape, dtype: torch.dtype, way: str) -> Any:
    """The same weights, where the layout allows it the same memory."""
    with torch.device("meta"):
        other = models.plain_unet(shape, device=torch.device("meta"), dtype=dtype)
    other.load_state_dict(plain.state_dict(), assign=True)
    if way == "channels_last":
        return other.to(memory_format=torch.channels_last)
    other.fuse_qkv_projections()
    return other
