"""Run a method on batches, and handle errors, out-of-memory errors and overflows in half precision."""

from __future__ import annotations

import itertools
import sys
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from its.methods.sample import Sample
from its.privacy import scrub
from its.specs.spec import SampleSpec
from its.user_cache import read, write

if TYPE_CHECKING:
    from its.methods.base import Method

CACHE_KIND = "batch_size"


class BatchRunner:
    """Makes the samples of a batch, isolating errors.

    - If the device runs out of memory, the batch is halved, with the same noise. The size is cached for later runs.
    - If an exception is raised, samples are made one at a time. Those that raise are returned as failed samples.
    - If a sample is not finite in half precision, it is made again in float32.
    """

    def __init__(self, method: Method) -> None:
        self.method = method
        self._max_batch = sys.maxsize  # largest batch size that may fit into memory
        self._padded_size = 0  # size to which smaller batches are padded, if the method has fixed shapes
        self._cache_key: tuple[Any, ...] | None = None  # key of the cached batch size; only on CUDA devices

    def load(self) -> None:
        """Read the cached batch size. Called once, after the method's weights are loaded.

        Subclasses also load the weights of their own components here, and raise UserError if they can't be loaded.
        """
        if self.method.device.type == "cuda":
            free, total = torch.cuda.mem_get_info(self.method.device)
            name = torch.cuda.get_device_name(self.method.device)
            self._cache_key = name, total, free // 2**30, self.method.memory_key
            cached = read(CACHE_KIND, self._cache_key) or ""
            self._max_batch = int(cached) if cached.isdecimal() and int(cached) > 0 else self._max_batch

    def __call__(self, batch: Sequence[SampleSpec]) -> list[Sample]:
        """Make a sample for each spec, in the same order."""
        samples: list[Sample] = []
        while rest := batch[len(samples) :]:
            specs = self._next_batch(rest)
            if (made := self._try_make(specs)) is not None:
                samples += made
                continue
            self._max_batch = len(specs) // 2
            if self._cache_key is not None:
                write(CACHE_KIND, self._cache_key, str(self._max_batch))
            self.method.release()
            torch.cuda.empty_cache()
            warnings.warn(f"out of memory at batch size {len(specs)}: continuing with {self._max_batch}", stacklevel=1)
        return samples

    def _next_batch(self, specs: Sequence[SampleSpec]) -> list[SampleSpec]:
        """Take the first specs with equal batch keys, up to the largest batch size."""
        key = self.method.batch_key(specs[0])
        compatible = itertools.takewhile(lambda spec: self.method.batch_key(spec) == key, specs)
        return list(itertools.islice(compatible, self._max_batch))

    def _try_make(self, specs: list[SampleSpec]) -> list[Sample] | None:
        """Make samples, failed ones included; None if a batch of several does not fit into memory."""
        try:
            samples = self._make(specs)
        except torch.OutOfMemoryError as error:
            return [_failed(specs[0], error)] if len(specs) == 1 else None
        except Exception as error:  # noqa: BLE001 - plugins may raise anything, and one sample must not stop the others
            if len(specs) == 1:
                return [_failed(specs[0], error)]
            return [sample for spec in specs for sample in self._try_make([spec]) or []]
        if not self.method.half_precision:
            return samples
        return [self._in_float32(sample.spec) if sample.result is None else sample for sample in samples]

    def _make(self, specs: list[SampleSpec]) -> list[Sample]:
        """Call the method. If it has fixed shapes, the batch is padded with copies of the last spec."""
        if not self.method.fixed_shapes:
            return self.method.make(specs)
        self._padded_size = min(max(self._padded_size, len(specs)), self._max_batch)
        padding = [specs[-1]] * (self._padded_size - len(specs))
        return self.method.make([*specs, *padding])[: len(specs)]

    def _in_float32(self, spec: SampleSpec) -> Sample:
        try:
            sample = self.method.make_in_float32(spec)
        except Exception as error:  # noqa: BLE001 - plugins may raise anything
            sample = _failed(spec, error)
        return replace(sample, precision="32-true")


def _failed(spec: SampleSpec, error: Exception) -> Sample:
    reason = f"{type(error).__name__}: {error}"
    return Sample(spec=spec, error=scrub(reason), traceback=scrub("".join(traceback.format_exception(error))))
