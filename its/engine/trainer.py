"""What of Lightning's Trainer makes sense here: looked at before one is made, in one message each."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from its.errors import UserError, nearest

STRATEGIES = ("auto", "ddp", "single_device")
"""Every process holds all weights and makes its own rows; there are no gradients or parameters to share."""

ON_CPU = ("32-true", "bf16-true", "16-true", "bf16-mixed")
"""Precisions that a CPU has, of those that make sense here."""


def check_trainer(settings: Mapping[str, Any]) -> None:
    """Look at the settings of a trainer, with its parts instantiated.

    Raises:
        UserError: something of it makes no sense for `its predict`, or for this machine.
    """
    _check_strategy(settings.get("strategy"))
    precision, plugins = settings.get("precision"), settings.get("plugins") or []
    names = [
        p if isinstance(p, str) else type(p).__name__ for p in (plugins if isinstance(plugins, list) else [plugins])
    ]
    if precision is not None and (others := [name for name in names if "precision" in name.lower()]):
        raise UserError(
            f"trainer.precision is {precision}, and trainer.plugins sets another by {', '.join(others)}: leave one out"
        )
    accelerator, devices = settings.get("accelerator"), _highest(settings.get("devices"))
    gpus = torch.cuda.device_count()
    if accelerator in ("gpu", "cuda") and not gpus and not (accelerator == "gpu" and torch.backends.mps.is_available()):
        raise UserError(
            f"trainer.accelerator is {accelerator}, but torch {torch.__version__} finds no GPU here. "
            "Leave it out, or take cpu"
        )
    if gpus and accelerator != "cpu":
        if devices > gpus:
            raise UserError(f"trainer.devices is {settings.get('devices')}, but this machine has {gpus} GPUs")
    elif accelerator in (None, "auto", "cpu"):
        _check_cpu(settings.get("devices"), devices, precision)


def device_type(settings: Mapping[str, Any]) -> str:
    """Type of the devices that a Trainer with these settings uses: cpu, cuda or mps."""
    accelerator = settings.get("accelerator") or "auto"
    if not isinstance(accelerator, str):
        return type(accelerator).__name__.removesuffix("Accelerator").lower()
    if accelerator in ("auto", "gpu"):
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    return accelerator


def default_precision(settings: Mapping[str, Any], on_cuda: str) -> str | None:
    """Precision of a Trainer whose settings name none: `on_cuda` on CUDA devices, else Lightning's own, float32.

    None if the settings name one, or have a plugin, which may set it.
    """
    if settings.get("precision") is not None or settings.get("plugins"):
        return None
    return on_cuda if device_type(settings) == "cuda" else None


def single_device(accelerator: str | None, precision: str | None, on_cuda: str) -> tuple[Fabric, str]:
    """A Fabric of one device, and its precision.

    Args:
        accelerator: as Lightning names it; by default a GPU if there is one.
        precision: as Lightning names it; by default `on_cuda` on CUDA devices and float32 elsewhere.
        on_cuda: default precision on CUDA devices.

    Raises:
        UserError: Lightning knows no such accelerator or precision, or the machine lacks it.
    """
    given = {"accelerator": accelerator, "precision": precision}
    precision = precision or default_precision(given, on_cuda) or "32-true"
    try:
        return Fabric(accelerator=accelerator or "auto", precision=precision, devices=1), precision  # type: ignore[arg-type]
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"trainer: accelerator {accelerator}, precision {precision}: {reason}") from None


def _check_cpu(given: Any, devices: int, precision: Any) -> None:
    cores = os.cpu_count() or 1
    if devices > cores:
        raise UserError(
            f"trainer.devices is {given}, but no GPU is in use here, and there are {cores} CPU cores: "
            f"expected 1 to {cores}"
        )
    if str(precision) in ("16-mixed", "16"):
        raise UserError(f"trainer.precision is {precision}, which a CPU lacks; it has {', '.join(ON_CPU)}")


def _check_strategy(strategy: Any) -> None:
    if strategy is None or strategy in STRATEGIES:
        return
    is_object = isinstance(strategy, DDPStrategy | SingleDeviceStrategy)
    if is_object and getattr(strategy, "_start_method", "popen") == "popen":
        return
    name = strategy if isinstance(strategy, str) else type(strategy).__name__
    raise UserError(
        f"trainer.strategy is {name}; expected {', '.join(STRATEGIES)}: nothing is trained or sharded, every process "
        f"holds all weights and makes its own samples.{nearest(name, STRATEGIES)}"
    )


def _highest(devices: Any) -> int:
    """How many devices there must be at least; 0 where that is left open. Lightning knows wrong values."""
    if isinstance(devices, str):
        numbers = [int(part) for part in devices.split(",") if part.strip().isdecimal()]
        return (max(numbers) + 1 if "," in devices else numbers[0]) if numbers else 0
    if isinstance(devices, list):
        return max((n for n in devices if isinstance(n, int)), default=-1) + 1
    return max(devices, 0) if isinstance(devices, int) else 0
