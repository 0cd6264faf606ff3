"""The processes of one run: they meet before the first batch and after the last one, and can be told to stop."""

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
"""How long a process waits for the others at the end. Their shares are equal, their speeds need not be."""


SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""Signals that end a run after its batch. SLURM sends SIGUSR1 before a time limit (`--signal=SIGUSR1@90`)."""


def with_cluster_environment(plugins: Any, num_nodes: int | None) -> list[Any]:
    """Plugins of the Trainer, with the cluster environment that SLURM's variables mean.

    Lightning takes any process with `SLURM_NTASKS` for one of that many, also in notebooks and interactive shells of a
    job. On SIGUSR1 it saves all weights and requeues the job, which is turned off here.

    Args:
        plugins: those of the config; a cluster environment among them is kept.
        num_nodes: machines that the run is for.

    Raises:
        UserError: a run on several machines was not started by srun.
        RuntimeError: the job has no `--ntasks-per-node`, or what else Lightning finds wrong with srun's variables.
    """
    found = [*plugins] if isinstance(plugins, list | tuple) else [] if plugins is None else [plugins]
    own = [plugin for plugin in found if isinstance(plugin, ClusterEnvironment)]
    if not own and "SLURM_NTASKS" in os.environ and not TorchElasticEnvironment.detect():
        if slurm_tasks() > 1:
            own = [SLURMEnvironment()]
        elif (num_nodes or 1) > 1:
            raise UserError(
                f"trainer.num_nodes is {num_nodes}, but this process was not started by srun: start it with srun, "
                "as configs/slurm/predict.sh does, or leave trainer.num_nodes out"
            )
        else:
            own = [LightningEnvironment()]
        found += own
    for environment in own:
        if isinstance(environment, SLURMEnvironment):
            environment.auto_requeue = False
    return found


class GracefulShutdown(Callback):
    """Waits for the other processes at the end, and stops after the current batch where a signal asks for it.

    Lightning answers SIGTERM with a collective in the signal handler, and its predict loop goes on all the same.
    """

    def __init__(self) -> None:
        self._group: Any = None
        self._before: dict[int, Any] = {}
        self._ours: Any = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Meet the others: a group of its own, since the usual one gives up after half an hour."""
        if trainer.world_size > 1:  # here, since a rank without rows never comes to `on_predict_start`
            self._group = dist.new_group(timeout=PATIENCE)
            dist.barrier(self._group)  # connections are made now, by the usual patience

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Handle `SIGNALS` in the place of Lightning."""
        method = method_of(pl_module)

        def stop(number: int, frame: FrameType | None) -> None:
            method.stopped = f"{signal.Signals(number).name}; the same command goes on where this stopped"
            launcher: Any = trainer.strategy.launcher
            if hasattr(launcher, "procs"):  # processes that Lightning started here: nobody else tells them
                launcher.kill(number)

        if threading.current_thread() is threading.main_thread():
            self._before, self._ours = {number: signal.signal(number, stop) for number in SIGNALS}, stop

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the handlers, unless Lightning has done so."""
        for number, handler in self._before.items():
            if signal.getsignal(number) is self._ours:
                signal.signal(number, handler)
        self._before, self._ours = {}, None

    def wait(self) -> None:
        """Until all of them have written their samples."""
        if self._group is not None:
            dist.barrier(self._group)
