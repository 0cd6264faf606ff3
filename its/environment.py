"""Environment variables: those that libraries need and some systems leave out, and those that launchers set."""

from __future__ import annotations

import getpass
import os


def complete_environment() -> None:
    """Name the user and a home folder where neither the environment nor the list of users does.

    Containers often run under a user id without an entry in that list (`docker run -u 12345`, OpenShift). Torch then
    fails to import, since `getpass.getuser` raises, and libraries create a folder that is called "~".
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
    """This process's number among those that torchrun, srun or Lightning started together for one command, from 0.

    `RANK` and `SLURM_PROCID` alone say nothing: pods, batch scripts and notebooks have them too.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return _number("RANK", 0)
    if slurm_tasks() > 1:
        return _number("SLURM_PROCID", 0)
    return _number("LOCAL_RANK", 0)  # of those that Lightning starts on one machine


def local_rank() -> int:
    """As `rank`, among the processes of this machine alone."""
    return _number("SLURM_LOCALID" if slurm_tasks() > 1 and "LOCAL_RANK" not in os.environ else "LOCAL_RANK", 0)


def slurm_tasks() -> int:
    """How many processes srun started together with this one; 1 for those that it did not start.

    `SLURM_NTASKS` is the size of the job, and is inherited by notebooks, batch scripts and interactive shells.
    """
    return _number("SLURM_STEP_NUM_TASKS", 1)


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isdecimal() else default
