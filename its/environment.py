"""Environment variables that libraries need, set where a system leaves them out, before the libraries are imported."""

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
