"""Environment variables required by libraries, or set by distributed launchers."""

from __future__ import annotations

import getpass
import os


def complete_environment() -> None:
    """Set LOGNAME and HOME if the user id has no entry in the password database, as in many containers.

    Otherwise `import torch` fails, since `getpass.getuser` raises, and libraries create a folder named "~".
    """
    if os.name != "posix":
        return
    try:
        getpass.getuser()
    except (KeyError, OSError):  # OSError since Python 3.13
        os.environ["LOGNAME"] = str(os.getuid())
    if os.path.expanduser("~") == "~":
        os.environ["HOME"] = "/"  # as Docker does


def rank() -> int:
    """Return the global rank if torchrun, srun or Lightning started this process, otherwise 0.

    `RANK` and `SLURM_PROCID` alone don't suffice, since they are also set in pods, batch scripts and notebooks.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return _number("RANK", 0)
    if slurm_tasks() > 1:
        return _number("SLURM_PROCID", 0)
    return _number("LOCAL_RANK", 0)  # set by Lightning on a single machine


def local_rank() -> int:
    """Return the rank among the processes of this machine."""
    return _number("SLURM_LOCALID" if slurm_tasks() > 1 and "LOCAL_RANK" not in os.environ else "LOCAL_RANK", 0)


def launched_processes() -> int:
    """Return the number of processes that torchrun or srun started together; 1 without them."""
    return _number("WORLD_SIZE", 1) if "TORCHELASTIC_RUN_ID" in os.environ else slurm_tasks()


def slurm_tasks() -> int:
    """Return the number of processes of the srun step; 1 without srun.

    `SLURM_NTASKS` is unsuitable: it is the size of the job, also set in batch scripts, notebooks and shells.
    """
    return _number("SLURM_STEP_NUM_TASKS", 1)


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isdecimal() else default
