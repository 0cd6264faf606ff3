"""What configs may name: plugins, the classes of Lightning listed here with their arguments, and trusted modules."""

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
from its.instantiate import plugin_class
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
"""Classes that files may name, each with the arguments that files may give it.

No argument is a function, an object, a path, or an address or account to send something to. Each class has to check
its arguments: a new entry needs a look at what the class does with them.
"""

FROM_COMMAND_LINE = ("lightning.pytorch.loggers.CSVLogger", "lightning.pytorch.loggers.TensorBoardLogger")
"""Classes that the command line may name besides, with any arguments: they write to the folders that are given."""

TRAINER = (
    "accelerator strategy devices num_nodes precision logger callbacks profiler plugins limit_predict_batches "
    "log_every_n_steps enable_progress_bar enable_checkpointing enable_model_summary deterministic benchmark "
    "inference_mode use_distributed_sampler detect_anomaly fast_dev_run barebones"
)
"""Arguments of the Trainer that files may give: those that have a meaning for prediction, and name no path."""

_PATHS = {name.rpartition(".")[2]: name for name in (*FROM_FILES, *FROM_COMMAND_LINE)}


@dataclass(frozen=True, kw_only=True)
class ConfigRules:
    """Which classes and arguments the keys of a config may name, which depends on the source of each key.

    Attributes:
        trusted: modules whose classes may be named too, with those of modules within them, with any arguments.
        source_of: key -> the file that set it, or the command line; None for defaults.
    """

    trusted: Sequence[str] = ()
    source_of: Callable[[str], str | None] = lambda key: COMMAND_LINE

    def find(self, name: str, base: type, key: str) -> type:
        """The class that a key names.

        Raises:
            UserError: it may not be named, or is no `base`.
        """
        module, _, short = name.rpartition(".")
        if self._trusts(module):
            return _checked(_imported(module, short), name, base)
        if issubclass(base, Plugin):
            try:
                return plugin_class(name, base)
            except UserError as error:
                raise UserError(f"{error}{self._remedy(module, key)}") from None
        known = {one: cls for one in _PATHS if issubclass(cls := _listed(one), base)}
        if short in known and module in ("", _PATHS[short].rpartition(".")[0], known[short].__module__):
            if _PATHS[short] in FROM_FILES or not self._is_from_file(key):
                return known[short]
            raise UserError(f"{short} may be named on the command line alone, since it writes where its arguments say")
        may = sorted(one for one in known if _PATHS[one] in FROM_FILES or not self._is_from_file(key))
        raise UserError(
            f"there is no {name!r} that a config may name here; it may name: {', '.join(may) or 'none'}."
            f"{nearest(short, may)}{self._remedy(module, key)}"
        )

    def check(self, cls: type, argument: str, value: Any, key: str) -> None:
        """Check an argument that is given for a class.

        Raises:
            UserError: it may be given on the command line alone.
        """
        if not self._is_from_file(key):
            return
        if cls is PredictOptions and argument == "output":
            _check_output(str(value), Path(self.source_of(key) or ""))
        allowed = _arguments(cls)
        if allowed is None or argument in allowed or self._trusts(cls.__module__):
            return
        raise UserError(
            f"a file may not give {argument} to {cls.__name__}, only {', '.join(allowed) or 'no arguments'}. "
            "If it is what you want, give it on the command line"
        )

    def _trusts(self, module: str) -> bool:
        return any(f"{module}.".startswith(f"{one}.") for one in self.trusted)

    def _is_from_file(self, key: str) -> bool:
        return self.source_of(key) not in (None, COMMAND_LINE)

    def _remedy(self, module: str, key: str) -> str:
        """How to name a class of a module of the user's own. Installed modules may run any program: no such advice."""
        made_by_its = Path(self.source_of(key) or "").suffix.lower() in KINDS
        if not module or made_by_its or module.partition(".")[0] in _installed():
            return ""
        return f" Naming it would run the code of {module}. If that is your own: --trust {module} on the command line"


def _arguments(cls: type) -> list[str] | None:
    """Arguments that files may give a class; None without a restriction."""
    from lightning.pytorch import Trainer

    if cls is Trainer:
        return TRAINER.split()
    path = _PATHS.get(cls.__name__)
    if path is None or _listed(cls.__name__) is not cls:
        return None
    return FROM_FILES.get(path, "").split()


def _check_output(value: str, source: Path) -> None:
    """Refuse run directories outside of the current folder, but for the one that the config lies in."""
    parts = PureWindowsPath(value).parts + PurePosixPath(value).parts
    is_rooted = PureWindowsPath(value).anchor or PurePosixPath(value).anchor
    is_expanded = value.startswith("~") or os.path.expandvars(value) != value
    is_outside = is_rooted or is_expanded or ".." in parts or "://" in value
    if value.isprintable() and (not is_outside or _is_folder_of(source, value)):
        return
    raise UserError(
        f"a file may name a folder within the current one, got {value!r:.200}. To write there, give it on the "
        "command line: --output FOLDER"
    )


def _is_folder_of(file: Path, folder: str) -> bool:
    """Whether a file lies in a folder, such as `its_config.yaml` in its run directory."""
    try:
        return user_path(folder).resolve() == file.resolve().parent
    except (OSError, RuntimeError):
        return False


@cache
def _installed() -> frozenset[str]:
    """Top-level packages of the standard library and of everything that is installed."""
    return sys.stdlib_module_names | packages_distributions().keys()


def _listed(short: str) -> type:
    module, _, name = _PATHS[short].rpartition(".")
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
