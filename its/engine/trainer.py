"""Validate settings of Lightning's Trainer before it is created, and choose defaults for the device."""

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
"""Supported strategies: each process holds all weights and makes its own samples, so nothing is sharded."""

CPU_PRECISIONS = ("32-true", "bf16-true", "16-true", "bf16-mixed")
"""Supported precisions on CPUs."""


def check_trainer(settings: Mapping[str, Any]) -> None:
    """Check the instantiated arguments of a Trainer.

    Raises:
        UserError: `its predict` does not support a setting, or the machine lacks the device.
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
    accelerator, devices = settings.get("accelerator"), _required_devices(settings.get("devices"))
    gpus = torch.cuda.device_count()
    if accelerator in ("gpu", "cuda") and not gpus and not (accelerator == "gpu" and torch.backends.mps.is_available()):
        raise UserError(
            f"trainer.accelerator is {accelerator}, but torch {torch.__version__} finds no GPU on this machine. "
            "Leave it out, or use cpu"
        )
    if gpus and accelerator != "cpu":
        if devices > gpus:
            raise UserError(f"trainer.devices is {settings.get('devices')}, but this machine has {gpus} GPUs")
    elif accelerator in (None, "auto", "cpu"):
        _check_cpu(settings.get("devices"), devices, precision)


def device_type(settings: Mapping[str, Any]) -> str:
    """Return the type of device that a Trainer with these settings uses: cpu, cuda or mps."""
    accelerator = settings.get("accelerator") or "auto"
    if not isinstance(accelerator, str):
        return type(accelerator).__name__.removesuffix("Accelerator").lower()
    if accelerator in ("auto", "gpu"):
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    return accelerator


def default_precision(settings: Mapping[str, Any], on_cuda: str) -> str | None:
    """Return the default precision: `on_cuda` on CUDA devices, None elsewhere, which is Lightning's float32.

    Also None if the settings contain a precision, or a plugin, which may set it.
    """
    if settings.get("precision") is not None or settings.get("plugins"):
        return None
    return on_cuda if device_type(settings) == "cuda" else None


def single_device(accelerator: str | None, precision: str | None, on_cuda: str) -> tuple[Fabric, str]:
    """Create a Fabric with one device; return it and its precision.

    Args:
        accelerator: Lightning's name of the accelerator; by default a GPU if available.
        precision: Lightning's name of the precision; by default `on_cuda` on CUDA devices and float32 elsewhere.
        on_cuda: default precision on CUDA devices.

    Raises:
        UserError: Lightning does not support the accelerator or the precision, or the machine lacks it.
    """
    given = {"accelerator": accelerator, "precision": precision}
    check_trainer(given)
    precision = precision or default_precision(given, on_cuda) or "32-true"
    try:
        return Fabric(accelerator=accelerator or "auto", precision=precision, devices=1), precision  # type: ignore[arg-type]
    except (ImportError, ValueError, RuntimeError, MisconfigurationException) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"trainer: accelerator {accelerator}, precision {precision}: {reason}") from None


def _check_cpu(setting: Any, devices: int, precision: Any) -> None:
    cores = os.cpu_count() or 1
    if devices > cores:
        raise UserError(
            f"trainer.devices is {setting}, but no GPU is used and the machine has {cores} CPU cores: "
            f"expected 1 to {cores}"
        )
    if str(precision) in ("16-mixed", "16"):
        raise UserError(
            f"trainer.precision is {precision}, which CPUs do not support; expected one of {', '.join(CPU_PRECISIONS)}"
        )


def _check_strategy(strategy: Any) -> None:
    if strategy is None or strategy in STRATEGIES:
        return
    is_object = isinstance(strategy, DDPStrategy | SingleDeviceStrategy)
    if is_object and getattr(strategy, "_start_method", "popen") == "popen":
        return
    name = strategy if isinstance(strategy, str) else type(strategy).__name__
    raise UserError(
        f"trainer.strategy is {name}; expected {', '.join(STRATEGIES)}: each process holds all weights, so "
        f"nothing is sharded.{nearest(name, STRATEGIES)}"
    )


def _required_devices(devices: Any) -> int:
    """Number of devices that the setting requires; 0 if it requires none. Lightning reports invalid values."""
    if isinstance(devices, str):
        numbers = [int(number) for number in devices.split(",") if number.strip().isdecimal()]
        return (max(numbers) + 1 if "," in devices else numbers[0]) if numbers else 0
    if isinstance(devices, list):
        return max((n for n in devices if isinstance(n, int)), default=-1) + 1
    return max(devices, 0) if isinstance(devices, int) else 0
