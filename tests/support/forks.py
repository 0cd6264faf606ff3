"""Runs `its` commands in processes that are forked off after the imports, which take longer than a tiny run.

A line of JSON in, one out: {"start": argv, "env": {...}, "log": path} -> pid; {"wait": pid} -> exit status.
Each process leads a group of its own, so that it can be killed with all that it started.
"""

import atexit
import contextlib
import json
import os
import sys

import diffusers  # noqa: F401
import torch
import transformers  # noqa: F401
from diffusers import AutoencoderKL, UNet2DConditionModel  # noqa: F401 - lazy otherwise

import its.commands.predict  # noqa: F401
from its import registry
from its.cli import main

torch.set_num_threads(1)
registry.load_plugins()


def start(argv, env, log):
    pid = os.fork()
    with contextlib.suppress(OSError):  # whichever comes first, the parent or the child
        os.setpgid(pid, pid)
    if pid:
        return pid
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(out, stream)
    os.environ.update(env)
    status = 70
    try:
        status = main(argv)
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


os.write(1, b"0\n")  # ready
for line in sys.stdin:
    job = json.loads(line)
    if "start" in job:
        answer = start(job["start"], job["env"], job["log"])
    else:
        answer = os.waitstatus_to_exitcode(os.waitpid(job["wait"], 0)[1])
    os.write(1, f"{answer}\n".encode())
