"""The classes that a config may name: plugins, a fixed list of Lightning's, and those of trusted modules."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from importlib import import_module

from its.errors import UserError, nearest
from its.instantiate import FindClass, plugin_class
from its.interfaces import Plugin

LIGHTNING = {
    "lightning.pytorch.loggers": (
        "CSVLogger",
        "CometLogger",
        "MLFlowLogger",
        "TensorBoardLogger",
        "WandbLogger",
    ),
    "lightning.pytorch.callbacks": ("DeviceStatsMonitor", "RichProgressBar", "TQDMProgressBar", "Timer"),
    "lightning.pytorch.strategies": ("DDPStrategy", "SingleDeviceStrategy"),
    "lightning.pytorch.profilers": ("AdvancedProfiler", "PassThroughProfiler", "PyTorchProfiler", "SimpleProfiler"),
    "lightning.pytorch.accelerators": ("CPUAccelerator", "CUDAAccelerator", "MPSAccelerator"),
    "lightning.pytorch.plugins": ("DoublePrecision", "HalfPrecision", "MixedPrecision"),
    "lightning.pytorch.plugins.environments": (
        "LSFEnvironment",
        "LightningEnvironment",
        "MPIEnvironment",
        "SLURMEnvironment",
        "TorchElasticEnvironment",
    ),
}
"""Classes by module. None of them runs or reads code that its arguments choose."""

_BY_NAME = {name: module for module, names in LIGHTNING.items() for name in names}


def class_finder(trusted: Sequence[str] = ()) -> FindClass:
    """Return the function that resolves class names of configs.

    Args:
        trusted: modules whose classes may be named too, with those of modules within them.
    """

    def find_class(name: str, base: type) -> type:
        module, _, short = name.rpartition(".")
        if any(f"{module}.".startswith(f"{one}.") for one in trusted):
            return _checked(_imported(module, short), name, base)
        if issubclass(base, Plugin):
            try:
                return plugin_class(name, base)
            except UserError as error:
                raise UserError(f"{error}{_remedy(module)}") from None
        known = {one: cls for one, where in _BY_NAME.items() if issubclass(cls := _lightning(where, one), base)}
        if short in known and module.partition(".")[0] in ("", "lightning"):  # which re-exports them in several places
            return known[short]
        raise UserError(
            f"there is no {name!r} that a config may name here; it may name: {', '.join(sorted(known)) or 'none'}."
            f"{nearest(short, known)}{_remedy(module)}"
        )

    return find_class


def _lightning(module: str, name: str) -> type:
    cls: type = getattr(import_module(module), name)
    return cls


def _imported(module: str, name: str) -> object:
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{module}.{name} can't be imported: {error}") from None


def _checked(cls: object, name: str, base: type) -> type:
    if not inspect.isclass(cls) or not issubclass(cls, base) or inspect.isabstract(cls):
        raise UserError(f"{name} is no {base.__name__} that can be constructed")
    return cls


def _remedy(module: str) -> str:
    """How to name a class of a module that is not among those allowed."""
    if not module:
        return ""
    return f" Naming another class would import its code. If you trust it, say so on the command line: --trust {module}"
