"""A part of `cpu.py`: whether two processes get twice the work done on two cores."""

from __future__ import annotations

import time
from multiprocessing import get_context
from multiprocessing.connection import Connection

import torch
from cpu_loop import tiny_loop
from measuring import Figure, figure, interleaved, ratios

CANVAS = (64, 512)
STEPS = 10


def processes(rounds: int) -> dict[str, Figure]:
    """Two processes of one thread, against one alone and against one of two threads; a sample each, tiny UNets."""
    context = get_context("spawn")
    pipes, workers = [], []
    for _ in range(2):
        ours, theirs = context.Pipe()
        worker = context.Process(target=_work, args=(theirs,), daemon=True)
        worker.start()
        pipes.append(ours)
        workers.append(worker)
    for pipe in pipes:
        pipe.recv()

    def run(who: list[Connection], threads: int) -> float:
        begin = time.perf_counter()
        for pipe in who:
            pipe.send(threads)
        for pipe in who:
            pipe.recv()
        return time.perf_counter() - begin

    turns = {
        "one": lambda: run(pipes[:1], 1),
        "two": lambda: run(pipes, 1),
        "one of two threads": lambda: run(pipes[:1], 2),
    }
    seconds = interleaved(turns, rounds=rounds)
    for pipe, worker in zip(pipes, workers, strict=True):
        pipe.send(0)
        worker.join()
    return {
        "two processes on two cores, share of the ideal": figure(ratios(seconds["one"], seconds["two"]), ""),
        "two processes over one of two threads, samples/s": figure(
            [2 * r for r in ratios(seconds["one of two threads"], seconds["two"])], "x"
        ),
    }


def _work(pipe: Connection) -> None:
    """Make a sample for every number of threads that comes in; 0 ends it."""
    import bring

    bring.quiet()
    with tiny_loop(CANVAS, steps=STEPS) as denoise:
        denoise(1)
        pipe.send("ready")
        while threads := pipe.recv():
            torch.set_num_threads(threads)
            denoise(1)
            pipe.send("done")
