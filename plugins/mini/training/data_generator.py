"""Generate training data in worker processes while the device trains on the data finished so far."""

from __future__ import annotations

import multiprocessing
import queue
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from its_plugins.mini.captions import CONCEPTS
from its_plugins.mini.training import canvases, colors, outlines, pictures

Job = tuple[str, str, int]
"""Sort of data ("visual", "audio", "color" or "outline"), class, and seed."""

Arrays = dict[str, dict[str, list[NDArray[np.uint8]]]]
"""Generated arrays by sort and class."""


class DataGenerator:
    """Pool of processes that generate training data. The data is balanced over the classes at any time.

    Create it before anything uses CUDA: its processes are forked.
    """

    def __init__(self, sprites: Path, *, workers: int, counts: dict[str, int], seed: int = 0) -> None:
        """
        Args:
            sprites: file of sprites, see `pictures.load_sprites`.
            workers: number of processes.
            counts: arrays of each class, by sort.
            seed: first seed of each class.
        """
        self.arrays: Arrays = {sort: {name: [] for name in _classes(sort)} for sort in counts}
        context, todo = multiprocessing.get_context("fork"), jobs(counts, seed)
        self._results = context.Queue()
        self._workers = [
            context.Process(target=_work, args=(todo[index::workers], sprites, self._results), daemon=True)
            for index in range(workers)
        ]
        self._waiting = len(todo)
        for worker in self._workers:
            worker.start()

    def collect(self, seconds: float = 0.0) -> None:
        """Move finished data to `arrays` for `seconds`, then for up to 3 s more, and until every class has data.

        Raises:
            RuntimeError: a process failed; it has printed its traceback.
        """
        until = time.monotonic() + seconds
        while self._waiting:
            remaining = until - time.monotonic()
            if remaining < -3 and self._complete():
                break
            try:
                sort, name, array = self._results.get(timeout=max(0.2, remaining))  # a full pipe may pause
            except queue.Empty:
                self._check()
                if self._complete():
                    break
                continue
            self._waiting -= 1
            self.arrays[sort][name].append(array)
        self._check()

    def _check(self) -> None:
        if failed := [worker.exitcode for worker in self._workers if worker.exitcode]:
            raise RuntimeError(f"a data process ended with status {failed[0]}: see its traceback above")

    def _complete(self) -> bool:
        return all(rows for sort in self.arrays.values() for rows in sort.values())

    def counts(self) -> dict[str, int]:
        """Count the arrays of each sort."""
        return {sort: sum(len(rows) for rows in by_class.values()) for sort, by_class in self.arrays.items()}

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.kill()


def jobs(counts: dict[str, int], seed: int) -> list[Job]:
    """List the jobs of all sorts, evenly interleaved."""
    waiting = [
        ((index + 0.5) / count, (sort, name, seed + index))
        for sort, count in counts.items()
        for index in range(count)
        for name in _classes(sort)
    ]
    return [job for _, job in sorted(waiting)]


def _classes(sort: str) -> list[str]:
    return list(CONCEPTS["audio" if sort == "audio" else "visual"])


def _work(todo: list[Job], sprites: Path, results: multiprocessing.Queue) -> None:
    torch.set_num_threads(1)
    art = pictures.load_sprites(sprites)
    parent = multiprocessing.parent_process()
    for sort, name, seed in todo:
        if parent is None or not parent.is_alive():  # the parent was killed
            return
        rng = np.random.default_rng([seed, *f"{sort} {name}".encode()])
        torch.manual_seed(int(rng.integers(2**31)))
        if sort == "audio":
            array = canvases.spectrogram(name, rng)
        elif sort == "color":
            array = colors.paint(name, art, rng)
        elif sort == "outline":
            array = outlines.outlined_picture(name, art, rng)
        else:
            array = (pictures.picture(name, art, rng) * 255).round().astype(np.uint8)
        results.put((sort, name, array))
