"""Part of `cpu.py`: throughput of two processes on two cores, relative to one."""

from __future__ import annotations

import time
from multiprocessing import get_context
from multiprocessing.connection import Connection

import torch
from cpu_loop import tiny_loop
from measuring import Figure, figure, interleave, ratios

CANVAS = (64, 512)
STEPS = 10


def processes(rounds: int) -> dict[str, Figure]:
    """Two processes with one thread each, against one alone and one with two threads; a sample each, tiny UNets."""
    context = get_context("spawn")
    pipes, workers = [], []
    for _ in range(2):
        pipe, end = context.Pipe()
        workers.append(context.Process(target=_work, args=(end,), daemon=True))
        workers[-1].start()
        pipes.append(pipe)
    for pipe in pipes:
        pipe.recv()

    def run(pipes: list[Connection], threads: int) -> float:
        begin = time.perf_counter()
        for pipe in pipes:
            pipe.send(threads)
        for pipe in pipes:
            pipe.recv()
        return time.perf_counter() - begin

    turns = {
        "one": lambda: run(pipes[:1], 1),
        "two": lambda: run(pipes, 1),
        "one of two threads": lambda: run(pipes[:1], 2),
    }
    seconds = interleave(turns, rounds=rounds)
    for pipe, worker in zip(pipes, workers, strict=True):
        pipe.send(0)
        worker.join()
    gains = [2 * ratio for ratio in ratios(seconds["one of two threads"], seconds["two"])]
    return {
        "two processes on two cores, share of the ideal": figure(ratios(seconds["one"], seconds["two"]), ""),
        "two processes over one of two threads, samples/s": figure(gains, "x"),
    }


def _work(pipe: Connection) -> None:
    """Make a sample for each received number of threads; 0 ends the process."""
    import environment

    environment.silence()
    with tiny_loop(CANVAS, steps=STEPS) as denoise:
        denoise(1)
        pipe.send("ready")
        while threads := pipe.recv():
            torch.set_num_threads(threads)
            denoise(1)
            pipe.send("done")
