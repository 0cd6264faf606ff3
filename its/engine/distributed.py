"""Coordinate the processes of a run: cluster environment, barriers, and signals that stop it."""

from __future__ import annotations

import os
import signal
import threading
from datetime import timedelta
from types import FrameType
from typing import Any

import torch.distributed as dist
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer

from its.environment import slurm_tasks
from its.errors import UserError
from its.methods.base import method_of

PATIENCE = timedelta(days=7)
"""Maximum time that a process waits for the others at the end: devices may differ in speed."""

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""Signals that end a run after its batch. SLURM sends SIGUSR1 before a time limit (`--signal=SIGUSR1@90`)."""


def with_cluster_environment(plugins: Any, num_nodes: int | None) -> list[Any]:
    """Add the cluster environment to the Trainer's plugins, with corrections for SLURM.

    Lightning counts any process with `SLURM_NTASKS` as one of that many, even in notebooks and interactive shells of a
    job. On SIGUSR1 it writes a checkpoint of all weights and requeues the job, which is turned off here.

    Args:
        plugins: the config's plugins; a cluster environment among them is kept.
        num_nodes: number of machines.

    Raises:
        UserError: the run is for several machines, but was not started by srun.
        RuntimeError: SLURM's variables are incomplete, for instance without `--ntasks-per-node`.
    """
    result = [*plugins] if isinstance(plugins, list | tuple) else [] if plugins is None else [plugins]
    environments = [plugin for plugin in result if isinstance(plugin, ClusterEnvironment)]
    if not environments and "SLURM_NTASKS" in os.environ and not TorchElasticEnvironment.detect():
        if slurm_tasks() > 1:
            environments = [SLURMEnvironment()]
        elif (num_nodes or 1) > 1:
            raise UserError(
                f"trainer.num_nodes is {num_nodes}, but srun did not start this process: use srun, as "
                "configs/slurm/predict.sh does, or leave trainer.num_nodes out"
            )
        else:
            environments = [LightningEnvironment()]
        result += environments
    for environment in environments:
        if isinstance(environment, SLURMEnvironment):
            environment.auto_requeue = False
    return result


class GracefulShutdown(Callback):
    """Callback that stops the run after the current batch on a signal, and waits for the other processes at the end.

    Lightning's handler of SIGTERM calls a collective, and its predict loop continues anyway.
    """

    def __init__(self) -> None:
        self._group: Any = None
        self._previous: dict[int, Any] = {}
        self._handler: Any = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Create a process group with a long timeout; that of the default group is half an hour."""
        if trainer.world_size > 1:  # here, since `on_predict_start` is not called on a rank without samples
            self._group = dist.new_group(timeout=PATIENCE)
            dist.barrier(self._group)  # connects the processes, with the default timeout

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace Lightning's handlers of `SIGNALS`."""
        method = method_of(pl_module)

        def stop(number: int, frame: FrameType | None) -> None:
            method.stopped = f"{signal.Signals(number).name}; the same command resumes the run"
            launcher: Any = trainer.strategy.launcher
            if hasattr(launcher, "procs"):  # Lightning started the other processes; the signal reaches only this one
                launcher.kill(number)

        if threading.current_thread() is threading.main_thread():
            self._previous, self._handler = {number: signal.signal(number, stop) for number in SIGNALS}, stop

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the handlers, unless Lightning already has."""
        for number, handler in self._previous.items():
            if signal.getsignal(number) is self._handler:
                signal.signal(number, handler)
        self._previous, self._handler = {}, None

    def wait(self) -> None:
        """Wait until all processes have written their samples."""
        if self._group is not None:
            dist.barrier(self._group)
