"""Server that runs commands in forked processes, which saves importing torch, Lightning and diffusers.

It reads one JSON object a line and writes a number: {"start": argv, "program": name, "env": {...}, "cwd": path or
null, "log": path} -> pid; {"wait": pid} -> exit status. `program` is "its", "-m" (argv begins with a module's name) or
"script" (argv begins with a path). Each process leads a process group, so that it can be killed with its children.
"""

import atexit
import contextlib
import gc
import json
import os
import runpy
import sys
from pathlib import Path

import diffusers  # noqa: F401
import PIL.Image
import torch
import transformers  # noqa: F401
from diffusers import AutoencoderKL, UNet2DConditionModel  # noqa: F401 - lazy otherwise
from transformers import CLIPTextModel, CLIPTokenizer  # noqa: F401 - lazy otherwise

import its.commands.predict  # noqa: F401
from its import registry
from its.cli import main

torch.set_num_threads(1)
registry.load_plugins()
PIL.Image.init()
gc.collect()
gc.freeze()  # else each process spends time on these objects in its own collections


def run(program, argv):
    if program == "its":
        return main(argv)
    sys.argv = list(argv)
    sys.path.insert(0, os.getcwd() if program == "-m" else str(Path(argv[0]).parent))
    try:
        if program == "-m":
            runpy.run_module(argv[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(argv[0], run_name="__main__")
    except SystemExit as end:
        return end.code or 0
    return 0


def start(job):
    pid = os.fork()
    with contextlib.suppress(OSError):  # parent and child both try; the second may fail
        os.setpgid(pid, pid)
    if pid:
        return pid
    out = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(out, stream)
    os.environ.update(job["env"])
    status = 70
    try:
        if job["cwd"]:
            os.chdir(job["cwd"])
        status = run(job["program"], job["start"])
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


os.write(1, b"0\n")  # ready
for line in sys.stdin:
    job = json.loads(line)
    answer = start(job) if "start" in job else os.waitstatus_to_exitcode(os.waitpid(job["wait"], 0)[1])
    os.write(1, f"{answer}\n".encode())
