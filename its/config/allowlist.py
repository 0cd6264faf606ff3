"""Allowlist of the classes that configs may use: plugins, some Lightning classes, and classes of trusted modules."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from its.config.compose import COMMAND_LINE
from its.config.options import PredictOptions
from its.errors import UserError, nearest
from its.instantiate import Rules, plugin_class
from its.interfaces import Plugin
from its.media.limited import user_path
from its.media.metadata import KINDS

FROM_FILES: Mapping[str, str] = {
    "lightning.pytorch.accelerators.CPUAccelerator": "",
    "lightning.pytorch.accelerators.CUDAAccelerator": "",
    "lightning.pytorch.accelerators.MPSAccelerator": "",
    "lightning.pytorch.callbacks.RichProgressBar": "refresh_rate leave",
    "lightning.pytorch.callbacks.TQDMProgressBar": "refresh_rate process_position leave",
    "lightning.pytorch.loggers.CometLogger": "project online prefix",
    "lightning.pytorch.loggers.MLFlowLogger": "experiment_name run_name tags prefix synchronous",
    "lightning.pytorch.loggers.WandbLogger": "project name offline tags notes group job_type prefix",
    "lightning.pytorch.plugins.DoublePrecision": "",
    "lightning.pytorch.plugins.HalfPrecision": "precision",
    "lightning.pytorch.plugins.MixedPrecision": "precision device",
    "lightning.pytorch.plugins.environments.LSFEnvironment": "",
    "lightning.pytorch.plugins.environments.LightningEnvironment": "",
    "lightning.pytorch.plugins.environments.MPIEnvironment": "",
    "lightning.pytorch.plugins.environments.SLURMEnvironment": "auto_requeue requeue_signal",
    "lightning.pytorch.plugins.environments.TorchElasticEnvironment": "",
    "lightning.pytorch.profilers.AdvancedProfiler": "line_count_restriction",
    "lightning.pytorch.profilers.PassThroughProfiler": "",
    "lightning.pytorch.profilers.PyTorchProfiler": "group_by_input_shapes emit_nvtx row_limit sort_by_key "
    "record_module_names record_shapes profile_memory with_stack with_flops with_modules",
    "lightning.pytorch.profilers.SimpleProfiler": "extended",
    "lightning.pytorch.strategies.DDPStrategy": "process_group_backend timeout find_unused_parameters",
    "lightning.pytorch.strategies.SingleDeviceStrategy": "device",
}
"""Lightning classes that a config file may use, with the arguments that it may set.

Never list an argument that takes a function, an object, a path, an address or an account, nor a class that does not
validate its arguments.
"""

FROM_COMMAND_LINE = ("lightning.pytorch.loggers.CSVLogger", "lightning.pytorch.loggers.TensorBoardLogger")
"""Lightning classes that only the command line may use, since their arguments set output folders."""

TRAINER = (
    "accelerator strategy devices num_nodes precision logger callbacks profiler plugins limit_predict_batches "
    "log_every_n_steps enable_progress_bar enable_checkpointing enable_model_summary deterministic benchmark "
    "inference_mode use_distributed_sampler detect_anomaly fast_dev_run barebones"
)
"""Trainer arguments that a config file may set: those that affect prediction and are not paths."""

_PATHS = {name.rpartition(".")[2]: name for name in (*FROM_FILES, *FROM_COMMAND_LINE)}


@dataclass(frozen=True, kw_only=True)
class ConfigRules(Rules):
    """Allow the classes of this module, and restrict config files more than the command line.

    Attributes:
        trusted: modules whose classes, and those of their submodules, are allowed with any arguments.
        source_of: maps a key to the file that set it, or `COMMAND_LINE`; None for defaults.
    """

    trusted: Sequence[str] = ()
    source_of: Callable[[str], str | None] = lambda key: COMMAND_LINE

    def find(self, name: str, base: type, key: str) -> type:
        """Return the class for a name: a plugin, a listed Lightning class, or a class of a trusted module."""
        module, _, short = name.rpartition(".")
        if self._trusts(module):
            return _import_trusted(name, base)
        if issubclass(base, Plugin):
            try:
                return plugin_class(name, base)
            except UserError as error:
                raise UserError(f"{error}{self._remedy(module, key)}") from None
        listed = {other: cls for other, path in _PATHS.items() if issubclass(cls := _import(path), base)}
        allowed = [other for other in sorted(listed) if _PATHS[other] in FROM_FILES or not self._is_from_file(key)]
        if short in listed and module in ("", _PATHS[short].rpartition(".")[0], listed[short].__module__):
            if short in allowed:
                return listed[short]
            raise UserError(f"{short} is allowed only on the command line, since its arguments set output folders")
        raise UserError(
            f"{name!r} is not a class that a config may use here; expected one of: {', '.join(allowed) or 'none'}."
            f"{nearest(short, allowed)}{self._remedy(module, key)}"
        )

    def check(self, cls: type, argument: str, value: Any, key: str) -> None:
        """Check that the source of a key may set an argument of a class."""
        if not self._is_from_file(key):
            return
        if cls is PredictOptions and argument == "output":
            _check_output(str(value), Path(self.source_of(key) or ""))
        allowed = _arguments(cls)
        if allowed is None or argument in allowed or self._trusts(cls.__module__):
            return
        raise UserError(
            f"a config file may not set {argument} of {cls.__name__}, only {', '.join(allowed) or 'no arguments'}. "
            "Set it on the command line instead"
        )

    def _trusts(self, module: str) -> bool:
        return any(f"{module}.".startswith(f"{name}.") for name in self.trusted)

    def _is_from_file(self, key: str) -> bool:
        return self.source_of(key) not in (None, COMMAND_LINE)

    def _remedy(self, module: str, key: str) -> str:
        """Suggest --trust for a user's module, but not for installed ones, whose classes could run any program."""
        is_in_sample = Path(self.source_of(key) or "").suffix.lower() in KINDS  # samples may come from others
        if not module or is_in_sample or module.partition(".")[0] in _installed():
            return ""
        return f" Using it runs the code of {module}. If you trust it, add --trust {module} on the command line"


def _arguments(cls: type) -> list[str] | None:
    """Return the arguments of a class that a config file may set; None for all."""
    from lightning.pytorch import Trainer

    if cls is Trainer:
        return TRAINER.split()
    path = _PATHS.get(cls.__name__)
    if path is None or _import(path) is not cls:
        return None
    return FROM_FILES.get(path, "").split()


def _check_output(value: str, source: Path) -> None:
    """Refuse run directories outside the current folder, except the config's own folder."""
    parts = PureWindowsPath(value).parts + PurePosixPath(value).parts
    is_rooted = PureWindowsPath(value).anchor or PurePosixPath(value).anchor
    is_expanded = value.startswith("~") or os.path.expandvars(value) != value
    is_outside = is_rooted or is_expanded or ".." in parts or "://" in value
    try:
        is_own = value.isprintable() and user_path(value).resolve() == source.resolve().parent
    except (OSError, RuntimeError):
        is_own = False
    if is_own or (value.isprintable() and not is_outside):
        return
    raise UserError(
        f"got {value!r:.200}; a config file may only set a folder inside the current one. To write elsewhere, use "
        "--output FOLDER on the command line"
    )


@cache
def _installed() -> frozenset[str]:
    """Top-level packages of the standard library and of all installed distributions."""
    return sys.stdlib_module_names | packages_distributions().keys()


def _import(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def _import_trusted(path: str, base: type) -> type:
    try:
        cls = _import(path)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{path} can't be imported: {error}") from None
    if not inspect.isclass(cls) or not issubclass(cls, base) or inspect.isabstract(cls):
        raise UserError(f"{path} is not a concrete subclass of {base.__name__}")
    return cls
